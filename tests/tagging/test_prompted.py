"""A finished run of a prompted model tags notes as the other kinds do, or says in a sentence why it does not."""

import json
import shutil
import threading
from dataclasses import replace

import pytest
from conftest import note

from nbutils import ROOT
from nbutils.corpus import Corpus, fingerprint
from nbutils.corpus.formats import read_corpus, write_corpus
from nbutils.files import DataError
from nbutils.prompting import tagger as icl
from nbutils.study import runs
from nbutils.study.corpora import open_corpus
from nbutils.study.file import load_study
from nbutils.study.runs import write_run
from nbutils.taggers.settings import IclSettings
from nbutils.tagging import __main__


@pytest.fixture
def local(micro_llm):
    return IclSettings(model=str(micro_llm), prompt="tiny_icl", unit="sentence", tokens_per_character=1.0)


@pytest.fixture
def study(tmp_path, notes, monkeypatch):
    """A study below a root of its own, since its notes are looked for by its name."""
    (tmp_path / "studies").mkdir()
    write_corpus(Corpus("A", notes), tmp_path / "A.jsonl")
    path = tmp_path / "studies" / "s.yaml"
    path.write_text(
        f"corpora:\n  A: {{path: {tmp_path}/A.jsonl, format: jsonl, private: true}}\nsystems:\n  crf: {{}}\n", "utf-8"
    )
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    return load_study(path)


def finished(folder, tagger, corpora=None):
    tagger.save(folder / "model")
    write_run(folder, {"study": "s", "system": "icl", "kind": "icl", "train": "A", "seed": 0, "corpora": corpora or {}})
    return folder


@pytest.fixture
def two_notes(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("発熱あり。\n咳嗽なし。\n", encoding="utf-8")
    (tmp_path / "notes" / "b.txt").write_text("胸水を認めた。\n", encoding="utf-8")
    return tmp_path / "notes"


def test_a_zero_shot_run_tags_notes_like_its_tagger(tmp_path, local, two_notes):
    tagger = icl.fit([], local, seed=0)
    run = finished(tmp_path / "run", tagger)
    out = __main__.tag(run, two_notes, tmp_path / "out", progress=False)
    tagged = read_corpus(out / "tagged.jsonl", "jsonl", unannotated=True).documents
    assert [d.entities for d in tagged] == [p.entities for p in tagger.predict([d.without_entities() for d in tagged])]


def test_a_few_shot_run_shows_the_same_notes_again(tmp_path, local, study, two_notes):
    corpus = open_corpus(study, "A")
    tagger = icl.fit(corpus, replace(local, shots=2, shot_characters=30), seed=1)
    run = finished(tmp_path / "run", tagger, {"A": fingerprint(corpus)})
    loaded = __main__.load_tagger(run)
    assert loaded.shots == tagger.shots and all(d.private for d in loaded.shots)
    __main__.tag(run, two_notes, tmp_path / "out", progress=False)


@pytest.mark.parametrize(
    ("change", "says"),
    [("no study", "study file of this run is not there"), ("other text", "is not the one"), ("no corpus", "A.jsonl")],
)
def test_a_few_shot_run_whose_notes_are_gone_is_refused_in_a_sentence(tmp_path, local, study, two_notes, change, says):
    corpus = open_corpus(study, "A")
    run = finished(tmp_path / "run", icl.fit(corpus, replace(local, shots=1), seed=1), {"A": fingerprint(corpus)})
    if change == "no study":
        shutil.rmtree(tmp_path / "studies")
    elif change == "no corpus":
        (tmp_path / "A.jsonl").unlink()
    else:
        write_corpus(Corpus("A", (note(99),)), tmp_path / "A.jsonl")
    with pytest.raises(DataError) as caught:
        __main__.tag(run, two_notes, tmp_path / "out", progress=False)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_notes_to_be_tagged_go_to_no_host_that_is_not_trusted(tmp_path, two_notes):
    settings = IclSettings(model="m", endpoint="https://api.example.org/v1", external=True)
    with pytest.raises(DataError, match=r"this run asks api.example.org, and notes to be tagged are sent to no host"):
        __main__.tag(finished(tmp_path / "run", icl.fit([], settings, seed=0)), two_notes, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_server_on_this_machine_tags_notes(tmp_path, two_notes, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "prompting"))
    import servers

    server = servers.FaultServer(tmp_path)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}/v1"
    settings = IclSettings(model="m", endpoint=endpoint, cache=str(tmp_path / "a.sqlite"))
    out = __main__.tag(finished(tmp_path / "run", icl.fit([], settings, seed=0)), two_notes, tmp_path / "out")
    server.shutdown()
    assert [len(d.entities) for d in read_corpus(out / "tagged.jsonl", "jsonl")] == [1, 0]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"seed": 0, "shot_documents": [], "modell": "m"}', "[" * 100_000])
def test_settings_that_are_damaged_are_a_sentence(tmp_path, two_notes, local, content):
    run = finished(tmp_path / "run", icl.fit([], local, seed=0))
    (run / "model" / "settings.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="settings of a"):
        __main__.tag(run, two_notes, tmp_path / "out", progress=False)


def test_what_stops_an_endpoint_is_told_to_the_person_who_tags(tmp_path, two_notes):
    settings = IclSettings(model="m", endpoint="http://127.0.0.1:9/v1", cache=str(tmp_path / "a.sqlite"), dry_run=True)
    with pytest.raises(DataError, match="dry run, nothing was sent"):
        __main__.tag(finished(tmp_path / "run", icl.fit([], settings, seed=0)), two_notes, tmp_path / "out")
    assert json.loads((tmp_path / "run" / "model" / "settings.json").read_text("utf-8"))["dry_run"]
