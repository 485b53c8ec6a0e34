"""What a run costs, as its record says, and the arithmetic floor, as a pocket calculator says."""

import math
from pathlib import Path

import pandas as pd
import pytest

from nbutils import ROOT, figures
from nbutils.analysis import costs
from nbutils.analysis.costs import Gpu, NoteShape, floor_table
from nbutils.corpus import Document, Prediction
from nbutils.study.file import Study, System, load_study
from nbutils.study.results import Results
from nbutils.study.runs import Run, latency, model_size

H100 = Gpu(bandwidth=3.35e12, peak=989e12, price=2.0)
NOTE = NoteShape(prompt=700, text=600, entities=20, tag=5)
DEMO = load_study(ROOT / "studies" / "demo.yaml")


class Slow:
    """A tagger that says which notes it was given, one by one."""

    def __init__(self):
        self.given = []

    def predict(self, documents):
        (document,) = documents
        self.given.append(document.id)
        return [Prediction(document.id, ())]


def test_latency_is_of_notes_one_by_one_spread_over_the_corpus_without_the_first_call():
    tagger, documents = Slow(), [Document(str(k), "x" * k) for k in range(100)]
    found = latency(tagger, documents, most=20)
    assert found["documents"] == [str(k) for k in range(0, 100, 5)]
    assert tagger.given == ["0", *found["documents"]]
    assert found["characters"] == list(range(0, 100, 5))
    assert len(found["seconds"]) == 20 and min(found["seconds"]) >= 0
    assert len(latency(Slow(), documents[:3])["seconds"]) == 3


def test_the_size_of_a_neural_model_counts_its_weights_and_its_files(tmp_path):
    import torch

    (tmp_path / "weights").write_bytes(b"1234567")
    tagger = Slow()
    assert model_size(tagger, tmp_path) == {"saved_bytes": 7}
    tagger.model = torch.nn.Linear(3, 2).bfloat16()
    assert model_size(tagger, tmp_path) == {"saved_bytes": 7, "parameters": 8, "weight_bytes": 16}


def run(system="crf", seed=0, **record):
    return Run(ROOT, {"system": system, "train": "CR", "seed": seed} | record)


SCORES = pd.DataFrame(
    [("crf", "CR", "CR", 0, 60.0), ("crf", "CR", "PN", 0, 40.0), ("bert", "CR", "CR", 0, 70.0)],
    columns=["system", "train", "evaluate", "seed", "f1"],
)
TIMED = {
    "seconds": {"fit": 12.5}, "latency": {"seconds": [0.1, 0.2, 0.3], "characters": [100, 200, 300]},
    "peak_memory_bytes": {"cpu": 5e8, "gpu": 2e9}, "model_size": {"parameters": 3_000_000, "saved_bytes": 1e6},
    "tokens": {"notes": 4, "prompt": 400, "answer": 100}, "device": "a GPU", "threads": 4,
}  # fmt: skip


def test_a_runs_cost_is_what_its_record_says():
    (row,) = costs.cost_table(Results(DEMO, {}, [run(**TIMED)]), SCORES).to_dict("records")
    assert row["training (s)"] == 12.5
    assert row["p50 (ms a note)"] == pytest.approx(200)
    assert row["p95 (ms a note)"] == pytest.approx(290)
    assert row["ms per 1,000 characters"] == pytest.approx(1000)
    assert (row["peak memory (MB)"], row["parameters (M)"], row["saved (MB)"]) == (2000, 3, 1)
    assert (row["tokens read (a note)"], row["tokens written (a note)"]) == (100, 25)
    assert row["mean F1 (%)"] == 50
    assert row["device"] == "a GPU, 4 threads"


COSTS = ("training (s)", "p50 (ms a note)", "tokens read (a note)", "peak memory (MB)", "parameters (M)")


def test_what_an_older_run_did_not_record_is_missing_and_not_zero():
    (row,) = costs.cost_table(Results(DEMO, {}, [run()]), SCORES).to_dict("records")
    assert all(pd.isna(row[k]) for k in COSTS)


def test_systems_stand_in_the_order_of_the_study_and_runs_without_a_score_are_left_out():
    runs = [run("bert", **TIMED), run("crf", **TIMED), run("crf", seed=9, **TIMED)]
    table = costs.cost_table(Results(DEMO, {}, runs), SCORES)
    summary = costs.by_system(DEMO, table)
    assert list(summary.index) == [DEMO.systems["crf"].title, DEMO.systems["bert"].title]
    assert list(summary["runs"]) == [1, 1]
    drawn = figures.costs.score_against_cost(DEMO, table, "training (s)")
    assert "mean over evaluation corpora" in drawn.axes[0].get_ylabel()
    assert drawn.axes[0].get_title(loc="left") == f"{DEMO.systems['bert'].title} has the highest F1"


def test_the_floor_is_bytes_over_bandwidth_and_operations_over_peak():
    table = floor_table(8e9, 2, H100, NOTE, window=32, batches=(1, 1000))
    one = table.loc[("one token at a time", 1)]
    assert one["passes a note"] == 700 and one["tokens computed a note"] == 1400
    assert one["reading weights (s a note)"] == pytest.approx(700 * 16e9 / 3.35e12)
    assert one["computing (s a note)"] == pytest.approx(2 * 8e9 * 1400 / 989e12)
    assert one["bound by"] == "bandwidth"
    assert one["hours for 1,000,000 notes"] == pytest.approx(700 * 16e9 / 3.35e12 * 1e6 / 3600)
    assert one["price for 1,000,000 notes"] == pytest.approx(2 * one["hours for 1,000,000 notes"])
    assert table.loc[("one token at a time", 1000)]["bound by"] == "arithmetic"


def test_copy_decoding_needs_two_passes_an_entity_and_one_a_window():
    row = floor_table(8e9, 2, H100, NOTE, window=32).loc[("copy decoding", 1)]
    assert row["passes a note"] == 2 * 20 + 22 + 1
    assert row["tokens computed a note"] == 1400 + 63 * 32


def test_who_labels_tokens_takes_one_pass_and_who_writes_at_most_as_many_as_copying_needs():
    def run(system, answer, **settings):
        tokens = {"notes": 10, "prompt": 1000, "answer": answer}
        record = {"system": system, "train": "A", "seed": 0, "tokens": tokens, "settings": settings}
        return Run(Path(system), record | {"latency": {"seconds": [0.5], "characters": [100]}})

    systems = {name: System(name, "lora", (0,), {}, name.upper()) for name in ("label", "copy", "free", "far", "crf")}
    study = Study("s", {}, systems, train=("A",), evaluate=("A", "B"), seeds=(0,))
    runs = [run("label", 0), run("copy", 1010), run("free", 1010, decoding="free"), run("far", 1010, endpoint="x")]
    runs.append(Run(Path("crf"), {"system": "crf", "train": "A", "seed": 0}))
    place = {"train": "A", "seed": 0, "precision": 1, "recall": 1, "n_gold": 50, "n_predicted": 15}
    scores = pd.DataFrame([
        {"system": name, "evaluate": e, "setting": s, "f1": f1} | place
        for name in systems for e, s, f1 in (("A", "ID", 60.0), ("B", "OOD", 40.0))
    ])  # fmt: skip
    results = Results(study, {}, runs)
    table = costs.one_pass_or_many(results, costs.cost_table(results, scores), scores).reset_index("answer")
    passes = table["passes (a note, at most)"]
    assert list(table.index) == ["LABEL", "COPY", "FREE", "FAR"]  # a CRF reads no tokens
    assert passes["LABEL"] == 1 and passes["FREE"] == 101 and math.isnan(passes["FAR"])
    assert passes["COPY"] == 2 * 3 + 4 + 1  # 30 entities and 1,010 tokens in 10 notes; ⌈101 / 32⌉ = 4
    assert list(table["answer"]) == ["labels tokens"] + 3 * ["rewrites"]
    assert list(table.loc["COPY", ["F1 ID (%)", "F1 OOD (%)", "ms per 1,000 characters"]]) == [60, 40, 5000]
