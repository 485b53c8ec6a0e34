"""Predictions made elsewhere are a row of the same table; what does not belong to the notes is refused."""

import json
import stat
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from conftest import JMED, needs_jmed, whole_corpus

from nbutils import ROOT
from nbutils.analysis import costs, main_result
from nbutils.corpus import Corpus, Document, Entity, text_hash
from nbutils.corpus.formats import FORMATS, read_corpus, write_corpus, write_medtxt
from nbutils.files import DataError
from nbutils.scoring.spans import exact_scores
from nbutils.study.__main__ import main
from nbutils.study.corpora import open_corpus, split
from nbutils.study.execute import execute
from nbutils.study.file import load_study
from nbutils.study.results import open_results
from nbutils.study.systems import settings
from nbutils.taggers import external, load
from nbutils.taggers.settings import ExternalSettings


def line(note, entities=None, **other):
    """What another tool writes about a note: by default what its author marked, but for the first entity."""
    spans = note.entities[1:] if entities is None else entities
    row = {"id": note.id, "text_hash": text_hash(note.text)} | other
    return row | {"entities": [{"start": e.start, "end": e.end, "label": "Disease"} for e in spans]}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def study(tmp_path, notes):
    """A (trained on, its test part evaluated) and B, with predictions for every note of both."""
    b = [replace(n, id=f"b-{n.id}") for n in notes[:5]]
    write_medtxt(Corpus("A", notes), tmp_path / "a.xml")
    write_medtxt(Corpus("B", tuple(b)), tmp_path / "b.xml")
    write(tmp_path / "A.jsonl", [line(n) for n in notes])
    write(tmp_path / "B.jsonl", [line(n) for n in b])
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"corpora: {{A: {{path: {tmp_path}/a.xml}}, B: {{path: {tmp_path}/b.xml}}}}\ntrain: [A]\nsystems:\n"
        f"  other:\n    kind: external\n    seeds: [0]\n    labels_as: {{Disease: d}}\n"
        f"    predictions: {{A: {tmp_path}/A.jsonl, B: {tmp_path}/B.jsonl}}\n",
        encoding="utf-8",
    )
    return load_study(path)


def settings_of(path, **options):
    return ExternalSettings(predictions={"A": str(path)}, labels_as={"Disease": "d"}, **options)


def test_a_row_of_the_table_has_the_counts_of_the_files(study, tmp_path, notes, capsys):
    assert main(["check", str(study.path)]) == 0
    run = execute(study, "other", "A", 0, runs=tmp_path / "runs", progress=False)
    results = open_results(study.path, tmp_path / "runs")
    scores = main_result.score_runs(results).set_index("evaluate")
    n_gold = sum(len(n.entities) for n in notes[:5])
    assert scores.loc["B", "n_gold"] == n_gold and scores.loc["B", "n_predicted"] == n_gold - 5
    assert scores.loc["B", "precision"] == 100 and scores.loc["B", "recall"] == pytest.approx(100 * (1 - 5 / n_gold))
    test_part = results.gold("A", "A")
    assert scores.loc["A", "n_predicted"] == sum(len(d.entities) - 1 for d in test_part)
    assert run.record["seconds"] == {} and "latency" not in run.record and "tokens" not in run.record
    cost = costs.cost_table(results, main_result.score_runs(results)).iloc[0]
    assert (
        cost["device"] == "elsewhere" and cost.drop(["system", "train", "seed", "mean F1 (%)", "device"]).isna().all()
    )
    assert "finished before" in _said_again(study, tmp_path, capsys)
    assert [p.entities for p in load("external", run.folder / "model").predict(notes[:2])] == [
        tuple(n.entities[1:]) for n in notes[:2]
    ]


def _said_again(study, tmp_path, capsys):
    capsys.readouterr()
    execute(study, "other", "A", 0, runs=tmp_path / "runs", progress=False)
    return capsys.readouterr().out


def test_other_predictions_are_another_run(study, tmp_path, notes, capsys):
    execute(study, "other", "A", 0, runs=tmp_path / "runs", progress=False)
    write(tmp_path / "B.jsonl", [line(replace(n, id=f"b-{n.id}"), n.entities) for n in notes[:5]])
    assert "finished before" not in _said_again(study, tmp_path, capsys)


def twice(rows):
    return [*rows, rows[0]]


def overlapping(rows):
    spans = [{"start": 0, "end": 3, "label": "Disease"}, {"start": 2, "end": 4, "label": "Disease"}]
    return [rows[0] | {"entities": spans}, *rows[1:]]


def beyond(rows):
    return [rows[0] | {"entities": [{"start": 0, "end": 999, "label": "Disease"}]}, *rows[1:]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: rows[1:], 'B.jsonl: no prediction for the note "b-note-0"; tag all'),
        (lambda rows: [*rows, rows[0] | {"id": "who"}], 'B.jsonl: the corpus "B" has no note "who"; keep the ids'),
        (lambda rows: [rows[0] | {"text_hash": "0" * 16}, *rows[1:]], 'note "b-note-0" had another text .* again'),
        (twice, 'the note "b-note-0" stands there twice; keep one'),
        (overlapping, 'B.jsonl: document "b-note-0": entity 2–4 overlaps .*; correct what the tool wrote'),
        (beyond, 'B.jsonl: document "b-note-0": entity 0–999 does not lie in the text'),
        (lambda rows: [{"id": "b-note-0"}, *rows[1:]], "B.jsonl, line 1: not a prediction"),
        (lambda rows: [r | {"entities": [e | {"label": "x"} for e in r["entities"]]} for r in rows], "labels_as"),
    ],
)
def test_what_does_not_belong_to_the_notes_is_one_sentence_with_its_fix(change, sentence, study, tmp_path, capsys):
    path = tmp_path / "B.jsonl"
    write(path, change([json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]))
    assert main(["check", str(study.path)]) == 1
    said = capsys.readouterr().err
    assert "systems.other" in said and said.count("\n") == 1
    with pytest.raises(DataError, match=sentence):
        execute(study, "other", "A", 0, runs=tmp_path / "runs", progress=False)
    assert not list(tmp_path.rglob("run.json"))


def test_a_training_note_excuses_no_note_of_another_corpus_with_its_id(study, tmp_path, notes):
    """Ids such as 1, 2, 3 are those of many corpora."""
    train_id = next(d.id for d in notes if d.id not in {t.id for t in split(study, open_corpus(study, "A"))[1]})
    path = tmp_path / "B.jsonl"
    rows = [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]
    write(path, [*rows, rows[0] | {"id": train_id, "text_hash": "f" * 16}])
    with pytest.raises(DataError, match=f'has no note "{train_id}"'):
        execute(study, "other", "A", 0, runs=tmp_path / "runs", progress=False)


def test_a_corpus_without_predictions_or_predictions_without_a_corpus_are_named(study, capsys):
    text = study.path.read_text(encoding="utf-8")
    for old, new, said in (
        ("{A: ", "{C: x, A: ", 'no corpus "C"'),
        (", B: " + text.rsplit(", B: ", 1)[1].rstrip("}\n"), "", 'none for the corpus "B"; add its file'),
    ):
        study.path.write_text(text[: text.rindex("predictions")] + text[text.rindex("predictions") :].replace(old, new))
        assert main(["check", str(study.path)]) == 1
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("format", ["medtxt", "brat", "conll", "doccano", "labelstudio", "jsonl"])
def test_any_format_that_is_read_brings_the_same_predictions(format, notes, tmp_path):
    path = tmp_path / (f"A{FORMATS[format].suffix}" if not FORMATS[format].folder else "A")
    write_corpus(Corpus("A", notes), path, format)
    declared = dict(FORMATS[format].declared)
    tagger = external.fit(notes[:3], ExternalSettings(predictions={"A": str(path)}, format=format, **declared))
    corpus = Corpus("A", notes)
    assert exact_scores(corpus, tagger.predict(corpus)).f1 == 1


def test_types_and_certainties_are_those_of_the_study(tmp_path):
    """A tool without certainties is believed; an entity with one that the study leaves out is left out."""
    note = Document("1", "発熱、咳嗽、肺炎、胸痛")
    spans = [(0, 2, "d", "positive"), (3, 5, "d", "negative"), (6, 8, "d", None), (9, 11, "a", None)]
    marked = [{"start": s, "end": e, "label": label, "certainty": c} for s, e, label, c in spans]
    write(tmp_path / "A.jsonl", [line(note) | {"entities": marked}])

    def found(**options):
        tagger = external.ExternalTagger(ExternalSettings(predictions={"A": str(tmp_path / "A.jsonl")}, **options))
        return [e.key for e in tagger.predict([note])[0].entities]

    assert found() == [(0, 2, "d"), (3, 5, "d"), (6, 8, "d")]
    assert found(certainties=("positive",)) == [(0, 2, "d"), (6, 8, "d")]
    assert found(labels=("d-positive", "d-negative")) == [(0, 2, "d-positive"), (3, 5, "d-negative")]
    assert found(labels=("d",), labels_as={"a": "d"}) == [(9, 11, "d")]


def test_sentences_about_a_private_corpus_tell_neither_file_nor_note(notes, tmp_path, monkeypatch):
    monkeypatch.delenv("NBUTILS_SHOW_PRIVATE", raising=False)
    write(tmp_path / "Suzuki.jsonl", [line(n) for n in notes[1:]] + [line(notes[0], id="Sato")])
    settings = settings_of(tmp_path / "Suzuki.jsonl", private_corpora=("A",))
    for ids in (notes, notes[1:]):
        with pytest.raises(DataError) as caught:
            external.fit([], settings).predict(Corpus("A", tuple(ids), private=True))
        said = str(caught.value)
        assert not any(word in said for word in ("Suzuki", "Sato", "note-0")) and 'corpus "A"' in said


@pytest.mark.parametrize("format", ["jsonl", "text"])
def test_the_bare_notes_for_another_tool_are_those_that_are_evaluated(study, format, tmp_path, capsys):
    assert main(["notes", str(study.path), str(tmp_path / "out"), "--format", format]) == 0
    assert "A" in capsys.readouterr().out
    for name, n in (("A", 2), ("B", 5)):  # of A, on which is trained, the test part
        path = tmp_path / "out" / (f"{name}.jsonl" if format == "jsonl" else name)
        bare = read_corpus(path, format, name, unannotated=True)
        assert len(bare) == n and not any(d.entities or d.meta for d in bare)


def test_private_notes_are_their_owners_alone(study, tmp_path, notes):
    study.path.write_text(study.path.read_text(encoding="utf-8").replace("b.xml}", "b.xml, private: true}"))
    assert main(["notes", str(study.path), str(tmp_path / "out")]) == 0
    assert stat.S_IMODE((tmp_path / "out" / "B.jsonl").stat().st_mode) == 0o600
    assert Entity(0, 1) not in read_corpus(tmp_path / "out" / "B.jsonl", "jsonl", "B", unannotated=True).documents


# --- GiNZA's predictions, as they lie in the repository ---------------------------------------------------------------

GINZA = ROOT / "data" / "external" / "ginza"


def positive_spans():
    """The spans of positive diseases in the bundled notes, read without our reader."""
    for path in (ROOT / "data" / "pn").glob("*.xml"):
        for article in ElementTree.parse(path).getroot().iter("article"):
            at, spans = len(article.text or ""), set()
            for tag in article:
                if (tag.tag, tag.get("certainty")) == ("d", "positive"):
                    spans.add((at, at + len(tag.text)))
                at += len(tag.text) + len(tag.tail or "")
            yield article.get("id"), spans


def counted(gold, name):
    """Gold spans, predicted spans, and those that are both."""
    rows = {row["id"]: row for row in map(json.loads, (GINZA / f"{name}.jsonl").read_text().splitlines())}
    found = {note: {(e["start"], e["end"]) for e in rows[note]["entities"]} for note in gold}
    totals = [sum(map(len, spans.values())) for spans in (gold, found)]
    return (*totals, sum(len(gold[note] & found[note]) for note in gold))


def row_of_ginza(monkeypatch, name):
    monkeypatch.setenv("JMED_LLM_DIR", str(JMED))
    study = load_study(ROOT / "studies" / "small.yaml")
    corpus = open_corpus(study, name)
    tagger = external.fit([], settings(study, study.systems["ginza"], "CR"))
    scores = exact_scores(corpus, tagger.predict(corpus))
    return scores.n_gold, scores.n_predicted, scores.matched_gold


def test_the_row_of_the_bundled_notes_has_the_counts_of_an_independent_script(monkeypatch):
    assert row_of_ginza(monkeypatch, "PN") == counted(dict(positive_spans()), "PN") == (514, 293, 108)


@needs_jmed
@pytest.mark.parametrize(
    ("name", "file", "counts"), [("CR", "CRNER", (1986, 1087, 439)), ("NR", "NRNER", (3845, 1319, 562))]
)
def test_the_rows_of_public_notes_have_the_counts_of_an_independent_script(name, file, counts, monkeypatch):
    gold = {d.id: {(e.start, e.end) for e in d.entities} for d in whole_corpus(file)}
    assert row_of_ginza(monkeypatch, name) == counted(gold, name) == counts


def test_no_text_of_a_note_lies_beside_the_predictions():
    for path in GINZA.glob("*.jsonl"):
        assert path.read_bytes().isascii()
        for row in map(json.loads, path.read_text().splitlines()):
            assert set(row) == {"id", "text_hash", "entities"}
            assert all(set(e) == {"start", "end", "label"} for e in row["entities"])
