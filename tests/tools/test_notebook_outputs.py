"""The outputs of the committed notebooks: made, tidied and compared (`make test-notebooks` compares all of them)."""

import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from nbutils import ROOT
from nbutils.corpus import Corpus
from nbutils.corpus.formats import read_corpus, write_medtxt
from nbutils.files import DataError
from nbutils.study.notebooks import NOTEBOOKS
from tools import notebook_outputs

FAST = ROOT / "notebooks" / "00_reading_the_paper.ipynb"
TRAINING = [path for path in notebook_outputs.notebooks() if not notebook_outputs.is_compared(path)]
SMALL = """
corpora:
  CR: {{path: {folder}/cr.xml}}
  PN: {{path: {folder}/pn.xml}}
train: [CR]
seeds: [0]
tiny:
  encoder: {{hidden: 32, layers: 1, epochs: 1}}
  llm: {{hidden: 32, layers: 1, samples: 64, longest: 12}}
systems:
  crf: {{iterations: 10}}
  bert: {{model: tiny/encoder, epochs: 1}}
  lora: {{model: tiny/llm, prompt: tiny_ja, max_length: 100, epochs: 1, train_tags: true}}
  icl-few: {{kind: icl, model: tiny/llm, prompt: tiny_icl, unit: sentence, decoding: copy, shots: 1,
            shot_characters: 40}}
  ginza: {{kind: external, format: medtxt, predictions: {{CR: {folder}/cr.xml, PN: {folder}/pn.xml}}}}
"""


@pytest.fixture(scope="module")
def sandbox():
    with notebook_outputs.sandbox() as place:
        yield place


def test_a_sandbox_has_neither_runs_nor_models(sandbox):
    assert {path.name for path in sandbox.iterdir()} >= {"nbutils", "notebooks", "studies", "data"}
    assert not (sandbox / "runs").exists() and not (sandbox / "models").exists()


def test_every_notebook_that_is_compared_was_saved_with_outputs():
    compared = [path for path in notebook_outputs.notebooks() if notebook_outputs.is_compared(path)]
    assert len(compared) >= 9 and all(map(notebook_outputs.has_outputs, compared))


def test_every_notebook_is_compared_or_trains_a_kind_of_system():
    trained = {path.rsplit("/", 1)[-1] for path in NOTEBOOKS.values()}
    assert {path.name for path in TRAINING} == trained


@pytest.fixture(scope="module")
def small(sandbox):
    """A study of a few notes and of micro models, which notebooks that train can have in seconds."""
    for name in ("cr", "pn"):
        write_medtxt(Corpus(name, read_corpus(ROOT / "data" / name).documents[:5]), sandbox / f"{name}.xml")
    (sandbox / "studies" / "micro.yaml").write_text(SMALL.format(folder=sandbox), encoding="utf-8")
    return "studies/micro.yaml"


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_a_notebook_that_trains_runs_in_a_fresh_clone_without_red_boxes(path, sandbox, small):
    """As in JupyterLab: started in notebooks/, without runs, models or a number of threads."""
    written = sandbox / path.name
    environment = {k: v for k, v in notebook_outputs.environment(sandbox).items() if k != "OMP_NUM_THREADS"}
    command = [sys.executable, "-m", "nbutils.study.papermill", path.name, str(written), "--no-progress-bar",
               "--log-level", "ERROR", "-k", "python3", "-r", "study_file", small]  # fmt: skip
    done = subprocess.run(
        command, cwd=sandbox / "notebooks", env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = [o for c in nbformat.read(written, as_version=4).cells for o in c.get("outputs", [])]
    red = [o.text for o in outputs if o.get("name") == "stderr" and "it/s" not in o.text]
    assert not red and not any(o.output_type == "error" for o in outputs)
    said = "".join(o.text for o in outputs if o.get("name") == "stdout")
    assert "was finished before" not in said
    threads = (
        re.search(r"'threads': (\d+)", str(outputs[-1].data))
        if path.stem not in ("03_crf_baseline", "03_external")
        else None
    )
    assert threads is None or threads[1] == "1"


@pytest.fixture(scope="module")
def executed(sandbox):
    """A notebook that needs no runs, executed and saved in the sandbox."""
    path = sandbox / "notebooks" / "executed.ipynb"
    shutil.copyfile(FAST, path)
    nbformat.write(notebook_outputs.execute(path, sandbox), path)
    return path


def test_one_changed_number_in_an_output_is_noticed(executed, sandbox):
    changed = executed.with_name("changed.ipynb")
    text = executed.read_text(encoding="utf-8")
    assert text.count("-11.0") >= 2  # Table 3 as printed, as text and as HTML
    changed.write_text(text.replace("-11.0", "-11.1"), encoding="utf-8")
    result = notebook_outputs.compare([executed, changed], sandbox)
    assert result.returncode == 1
    assert "changed.ipynb" in result.stdout and " executed.ipynb" not in result.stdout.split("FAILURES")[-1]


def test_an_executed_notebook_holds_no_time_no_version_and_no_machine(executed, sandbox):
    saved = nbformat.read(executed, as_version=4)
    assert saved.metadata.language_info == {"name": "python"} and saved.metadata.kernelspec.name == "python3"
    assert not any("execution" in cell.metadata for cell in saved.cells)
    assert str(sandbox) not in executed.read_text(encoding="utf-8")


def cell(data, *tags):
    output = nbformat.v4.new_output("display_data", data)
    return nbformat.v4.new_code_cell("x", outputs=[output], metadata={"tags": list(tags)})


def test_a_widget_leaves_no_id_behind():
    widget = {notebook_outputs.WIDGET: {"model_id": "abc123"}, "text/plain": "VBox()"}
    notebook = nbformat.v4.new_notebook(cells=[cell(widget, notebook_outputs.IGNORED)])
    assert "abc123" not in nbformat.writes(notebook_outputs.tidy(notebook))
    with pytest.raises(DataError, match="shows a widget"):
        notebook_outputs.tidy(nbformat.v4.new_notebook(cells=[cell(widget)]))


@pytest.mark.parametrize("place", ["/home/someone/x", "see '/tmp/tmpabc'", "/root/work"])
def test_an_output_with_a_path_of_the_machine_is_refused(place):
    with pytest.raises(DataError, match="path of this machine"):
        notebook_outputs.tidy(nbformat.v4.new_notebook(cells=[cell({"text/plain": place}, notebook_outputs.IGNORED)]))


def test_what_is_sanitised_is_never_a_result():
    from nbval.plugin import get_sanitize_patterns

    table = "T_1a2b3 <td>62.4</td> 12 of 345 p=0.003 −11.0 0x7f2a10b3c4d0"
    patterns = get_sanitize_patterns(notebook_outputs.SANITIZE.read_text(encoding="utf-8"))
    for pattern, replacement in patterns:
        table = re.sub(pattern, replacement, table)
    assert len(patterns) == 2
    assert table == "T_ID <td>62.4</td> 12 of 345 p=0.003 −11.0 0xADDRESS"
