"""A study taken to other tools: MLflow's file store and `datasets`, with its own numbers and no private note."""

import pytest

from nbutils import ROOT
from nbutils.analysis.main_result import score_runs
from nbutils.study.file import load_study
from nbutils.study.results import open_results
from tools import export

DEMO = ROOT / "studies" / "demo.yaml"


@pytest.fixture(scope="module")
def results():
    everything = open_results(load_study(DEMO))
    return open_results(everything.study, runs=[run for run in everything.runs if run.system in ("crf", "lora")])


@pytest.fixture
def private(results, tmp_path):
    text = DEMO.read_text(encoding="utf-8").replace("path: data/pn,", "private: true, path: data/pn,")
    path = tmp_path / "demo.yaml"
    path.write_text(text.replace("data/", f"{ROOT}/data/"), encoding="utf-8")
    return open_results(load_study(path), runs=results.runs)


def test_mlflow_reads_the_scores_settings_and_costs_of_every_run(results, tmp_path):
    pytest.importorskip("mlflow")
    assert export.to_mlflow(results, tmp_path / "store") == len(results.runs) == 8
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(tmp_path / "store").as_uri())
    runs = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    scores = score_runs(results)
    assert len(runs) == 8
    for run in runs:
        place = run.data.params
        of_run = (scores["system"] == place["system"]) & (scores["train"] == place["train"])
        for _, row in scores[of_run & (scores["seed"] == int(place["seed"]))].iterrows():
            assert run.data.metrics[f"f1 {row['evaluate']}"] == pytest.approx(row["f1"])
        assert run.data.metrics["seconds fit"] > 0 and "endpoint" not in place


def test_datasets_hold_the_notes_and_what_was_found_in_them(results, tmp_path):
    datasets = pytest.importorskip("datasets")
    assert export.to_datasets(results, tmp_path) == 2 + 2 * len(results.runs)
    notes = datasets.load_from_disk(str(tmp_path / "corpora" / "PN"))
    assert [row["text"] for row in notes] == [d.text for d in results.corpora["PN"]]
    found = datasets.load_from_disk(str(tmp_path / "predictions" / "crf" / "CR" / "seed-0" / "PN"))
    (scored,) = [s for s in results.scored("CR", "PN") if s.run.system == "crf"]
    spans = [[(e["start"], e["end"], e["label"]) for e in row["entities"]] for row in found]
    assert spans == [[(e.start, e.end, e.label) for e in p.entities] for p in scored.predicted]


def test_no_private_note_and_nothing_found_in_one_is_exported(private, tmp_path):
    pytest.importorskip("datasets")
    n = export.to_datasets(private, tmp_path / "out")
    found = (tmp_path / "out").rglob("dataset_info.json")
    places = {path.parent.relative_to(tmp_path / "out").as_posix() for path in found}
    assert n == len(places) and places and not any("PN" in place for place in places)


@pytest.mark.parametrize("to", list(export.EXPORTS))
def test_without_the_package_nothing_is_written_and_the_extra_is_named(to, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert export.main([to, str(DEMO), str(tmp_path / "out")]) == 1
    assert f".[{to}]" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: object())
    (tmp_path / "kept").write_text("x")
    assert export.main(["mlflow", str(DEMO), str(tmp_path)]) == 1
    assert "not an empty folder" in capsys.readouterr().err and (tmp_path / "kept").read_text() == "x"
