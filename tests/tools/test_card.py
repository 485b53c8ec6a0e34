"""A model card says what a run is, with the numbers of the study's own tables, and nothing of a note."""

import json
import re
import shutil

import pytest

from nbutils import ROOT
from nbutils.analysis import main_result
from nbutils.study.corpora import open_corpora
from nbutils.study.file import load_study
from nbutils.study.results import open_results
from nbutils.study.runs import read_run
from tools import card

DEMO = ROOT / "studies" / "demo.yaml"
RUN = ROOT / "data" / "reference_runs" / "demo" / "bert" / "CR" / "seed-0"


@pytest.fixture
def private_study(tmp_path):
    """The demo study with its progress notes marked private, in a file and a folder of its own."""
    text = DEMO.read_text(encoding="utf-8").replace("path: data/pn,", "private: true, path: data/pn,")
    path = tmp_path / "demo.yaml"
    path.write_text(text.replace("data/", f"{ROOT}/data/"), encoding="utf-8")
    return path


def written(tmp_path, *options, run=RUN):
    path = tmp_path / "card.md"
    assert card.main([str(run), "--out", str(path), *options]) == 0
    return path.read_text(encoding="utf-8")


def test_the_scores_are_those_of_the_studys_tables_with_intervals_around_them(tmp_path):
    text = written(tmp_path)
    scores = main_result.score_runs(open_results(load_study(DEMO), runs=[read_run(RUN)]))
    for _, row in scores.iterrows():
        (line,) = [line for line in text.splitlines() if re.match(rf"\| {row['evaluate']} \| (in|out)-", line)]
        f1, low, high = map(float, re.search(r"\| (\d+\.\d) \| \[(\d+\.\d), (\d+\.\d)\]", line).groups())
        assert f1 == round(row["f1"], 1) and low < f1 < high
    assert re.search(r"Δ CR → PN: -\d+\.\d points \[-", text)


def test_it_has_data_settings_licence_limits_and_versions(tmp_path):
    text = written(tmp_path)
    for heading in ("Data", "Settings", "Scores", "What it took", "Licence", "Limits", "What made it"):
        assert f"\n## {heading}\n" in text
    assert "| `learning_rate` | `0.002` |" in text and "tiny model" in text and "torch 2." in text
    assert str(ROOT) not in text


def test_a_card_of_a_private_study_has_no_text_id_or_name_of_a_note_and_is_for_its_owner_alone(tmp_path, private_study):
    text = written(tmp_path, "--study", str(private_study))
    assert "private" in text and (tmp_path / "card.md").stat().st_mode & 0o077 == 0
    for corpus in open_corpora(load_study(private_study)).values():
        for document in corpus:
            assert document.id not in text
            assert not any(
                len(e) >= 3 and e in text for e in (document.text[x.start : x.end] for x in document.entities)
            )


def test_a_base_model_is_named_with_its_licence(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(RUN, run)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    record |= {"tiny": {}, "model_commit": "0123abc", "joules": {"fit": 5200.0}}
    record["settings"]["model"] = "alabnii/jmedroberta-base-sentencepiece"
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    text = written(tmp_path, run=run)
    assert "commit 0123abc" in text and "CC BY-NC-SA 4.0, not for commercial use" in text and "5.2 kJ" in text


def test_a_run_whose_study_is_not_here_says_how_to_name_it(tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(RUN, run)
    record = json.loads((run / "run.json").read_text(encoding="utf-8")) | {"study": "elsewhere"}
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert card.main([str(run)]) == 1 and "STUDY=FILE.yaml" in capsys.readouterr().err
    assert not (run / "card.md").exists()
    assert card.main([str(tmp_path / "none")]) == 1 and "no finished run" in capsys.readouterr().err
