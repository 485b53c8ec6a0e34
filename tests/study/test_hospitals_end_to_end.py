"""Three hospitals, all the way: score, strata, leave one out, choose notes, suggest, learn from them, score again."""

import json

import pytest

from nbutils import ROOT
from nbutils.analysis import generalisation, significance, stratification
from nbutils.corpus import Corpus
from nbutils.corpus.formats import read_corpus, write_corpus
from nbutils.scoring.spans import exact_scores
from nbutils.study.__main__ import main as study_command
from nbutils.study.corpora import open_corpora
from nbutils.study.execute import execute
from nbutils.study.file import load_study
from nbutils.study.results import open_results
from nbutils.taggers import crf
from nbutils.taggers.settings import CrfSettings
from nbutils.tagging.__main__ import main as tag_command

STUDY = """
corpora:
  CR: {{path: {folder}/cr.xml}}
  HOSPITALS: {{path: data/examples/three_hospitals, format: jsonl, private: true}}
train: [CR]
cluster: [hospital]
seeds: [0]
systems: {{crf: {{iterations: 15}}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hospitals")


@pytest.fixture(scope="module")
def study(folder):
    write_corpus(Corpus("CR", read_corpus(ROOT / "data/cr").documents[:8]), folder / "cr.xml")
    (folder / "h.yaml").write_text(STUDY.format(folder=folder), encoding="utf-8")
    return load_study(folder / "h.yaml")


@pytest.fixture(scope="module")
def run(study, folder):
    return execute(study, "crf", "CR", 0, runs=folder / "runs", progress=False)


def test_the_check_counts_hospitals_and_patients(study, capsys):
    assert study_command(["check", str(study.path)]) == 0
    assert "HOSPITALS (private): 36 notes, 198 entities, 12 patients, 6 authors, 3 hospitals" in capsys.readouterr().out


def test_each_hospital_has_its_score_and_intervals_sample_hospitals(study, run, folder):
    evaluated = significance.evaluations(open_results(study, folder / "runs"))
    assert {len(set(codes)) for codes in evaluated["crf", "CR", "HOSPITALS"].groups.values()} == {3}
    strata = stratification.strata_table({"crf": evaluated["crf", "CR", "HOSPITALS"]})
    assert strata.groupby("by")["stratum"].nunique().to_dict() == {"hospital": 3, "author": 6, "patient": 12}
    assert not strata["name"].isin(["aoba", "kita", "minato"]).any()  # the notes are private


def test_leaving_one_hospital_out_trains_on_the_other_two(study):
    corpora = open_corpora(study)
    folds = generalisation.regimes(corpora["HOSPITALS"], corpora["CR"])["without the hospital"]
    assert len(folds) == 3
    for fold in folds:
        assert len({d.meta["hospital"] for d in fold.test}) == 1
        assert not {d.meta["hospital"] for d in fold.test} & {d.meta["hospital"] for d in fold.train}


def test_chosen_notes_corrected_in_the_tool_come_back_and_buy_back_some_of_the_loss(study, run, folder):
    """The annotator's work is played by the gold annotation of the notes that were chosen."""
    hospitals = open_corpora(study)["HOSPITALS"]
    pool = Corpus("pool", tuple(d for d in hospitals if d.meta["patient"] not in ("p4", "p8", "p12")))
    test = Corpus("test", tuple(d for d in hospitals if d.meta["patient"] in ("p4", "p8", "p12")))
    write_corpus(Corpus("pool", tuple(d.without_entities() for d in pool)), folder / "pool.jsonl")
    command = ["--run", str(run.folder), "--notes", str(folder / "pool.jsonl"), "--out", str(folder / "out")]
    assert tag_command([*command, "--next", "9", "--as", "labelstudio"]) == 0

    path = folder / "out/suggestions.labelstudio.json"
    tasks, gold = json.loads(path.read_text(encoding="utf-8")), {d.id: d for d in pool}
    for task in tasks:
        rows = [{"id": str(k), "type": "labels", "from_name": "label", "to_name": "text",
                 "value": {"start": e.start, "end": e.end, "labels": ["d"]}}
                for k, e in enumerate(gold[task["data"]["id"]].entities)]  # fmt: skip
        task["annotations"] = [{"result": rows}]
    path.write_text(json.dumps(tasks), encoding="utf-8")
    corrected = read_corpus(path, "labelstudio", offsets="codepoints", private=True)
    assert sorted(d.meta["hospital"] for d in corrected) == ["aoba"] * 3 + ["kita"] * 3 + ["minato"] * 3

    source = open_corpora(study)["CR"].documents
    before, after = (
        exact_scores(test, crf.fit(notes, CrfSettings(iterations=15), progress=False).predict(test)).f1
        for notes in (source, (*source, *corrected.documents))
    )
    assert after > before + 0.1
