"""The committed outputs of the notebooks are what the notebooks print: nbval runs them again and compares exactly."""

import re
import shutil

import nbformat
import pytest

from nbutils.files import DataError
from nbutils.study.notebooks import NOTEBOOKS
from tools import notebook_outputs

COMPARED = [path for path in notebook_outputs.notebooks() if notebook_outputs.is_compared(path)]
FAST = notebook_outputs.ROOT / "notebooks" / "00_reading_the_paper.ipynb"


@pytest.fixture(scope="module")
def room():
    with notebook_outputs.room() as place:
        yield place


@pytest.fixture(scope="module")
def compared(room):
    """nbval's report on all notebooks that were saved with outputs, in one go: each start of pytest costs seconds."""
    paths = [room / "notebooks" / path.name for path in COMPARED if notebook_outputs.has_outputs(path)]
    report = notebook_outputs.compare(paths, room).stdout
    n_cells = sum(cell.cell_type == "code" for path in paths for cell in nbformat.read(path, as_version=4).cells)
    counts = re.findall(r"(\d+) (?:passed|failed)", report.splitlines()[-1])
    assert sum(map(int, counts)) == n_cells, report[-5000:]
    return report


@pytest.mark.parametrize("path", COMPARED, ids=lambda path: path.stem)
def test_a_notebook_prints_again_what_it_was_saved_with(path, compared, request):
    if not notebook_outputs.has_outputs(path):
        reason = f"{path.name} was saved without outputs; `make outputs` makes them from the reference runs"
        if request.config.getoption("--strict-outputs"):
            pytest.fail(reason)
        pytest.skip(reason)
    wrong = [line for line in compared.splitlines() if line.startswith(("FAILED", "ERROR")) and path.name in line]
    assert not wrong, compared[-5000:]


def test_every_notebook_is_compared_or_run_in_small_by_the_end_to_end_study():
    small = (notebook_outputs.ROOT / "tests" / "study" / "test_end_to_end.py").read_text(encoding="utf-8")
    for path in notebook_outputs.notebooks():
        kinds = [kind for kind, notebook in NOTEBOOKS.items() if notebook.endswith(path.name)]
        in_study = kinds and re.search(rf"^  {kinds[0]}[\w-]*:|kind: {kinds[0]}\b", small, re.MULTILINE)
        assert notebook_outputs.is_compared(path) or in_study, path.name


@pytest.fixture(scope="module")
def executed(room):
    """A notebook that needs no runs, executed and saved in the room."""
    path = room / "notebooks" / "executed.ipynb"
    shutil.copyfile(FAST, path)
    nbformat.write(notebook_outputs.execute(path, room), path)
    return path


def test_one_changed_number_in_an_output_is_noticed(executed, room):
    changed = executed.with_name("changed.ipynb")
    text = executed.read_text(encoding="utf-8")
    assert text.count("-11.0") >= 2  # Table 3 as printed, as text and as HTML
    changed.write_text(text.replace("-11.0", "-11.1"), encoding="utf-8")
    result = notebook_outputs.compare([executed, changed], room)
    assert result.returncode == 1
    assert "changed.ipynb" in result.stdout and " executed.ipynb" not in result.stdout.split("FAILURES")[-1]


def test_an_executed_notebook_holds_no_time_no_version_and_no_machine(executed, room):
    saved = nbformat.read(executed, as_version=4)
    assert saved.metadata.language_info == {"name": "python"} and saved.metadata.kernelspec.name == "python3"
    assert not any("execution" in cell.metadata for cell in saved.cells)
    assert str(room) not in executed.read_text(encoding="utf-8")


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
