"""Prompts and their notes; local models; a run of the study; a server around a tiny model in its own process."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import servers
import torch
from conftest import note
from test_ask import settings_for

from nbutils import ROOT
from nbutils.corpus import Corpus, Document, Entity, problems
from nbutils.corpus.formats import read_corpus
from nbutils.files import DataError
from nbutils.prompting import tagger as icl
from nbutils.prompting.local import LocalModel
from nbutils.prompting.prompts import build_prompt, prompt_string, shortened
from nbutils.study.runs import read_predictions, write_predictions
from nbutils.taggers import PROMPTS
from nbutils.taggers.models import device
from nbutils.taggers.settings import IclSettings


def settings(**more):
    return IclSettings(model="m", **more)


# --- prompts ---------------------------------------------------------------------------------------------------------


def test_the_prompt_has_the_parts_of_textbox_1_in_its_order():
    text = prompt_string(build_prompt("icl_ja", [note(1)], "発熱あり。"))
    parts = [
        "### アノテーションガイドライン",
        "### 例",
        "テキスト：",
        "アノテーション：",
        "### 指示",
        "テキスト：発熱あり。",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places) and text.endswith("アノテーション：")
    assert "<d>" in text[places[1] : places[4]]


def test_zero_shot_has_the_guideline_and_no_example():
    text = prompt_string(build_prompt("icl_ja", [], "発熱あり。"))
    assert "### アノテーションガイドライン" in text and "### 例" not in text


def test_every_numbered_rule_of_the_bundled_guideline_has_its_line_in_the_prompt():
    rules = (ROOT / "data" / "GUIDELINE.md").read_text(encoding="utf-8").split("## Clarifications")[0]
    n_rules = len(re.findall(r"^\d+\. ", rules, re.M))
    prompt = (PROMPTS / "icl_ja.txt").read_text(encoding="utf-8")
    spans = prompt.split("囲む範囲")[1].split("補足")[0]
    assert len(re.findall(r"^\d+\. ", spans, re.M)) == n_rules


def test_a_note_that_looks_like_a_template_is_filled_in_as_it_is():
    shot = Document("s", "{text}{examples}{annotation}", (Entity(0, 6),))
    text = prompt_string(build_prompt("icl_ja", [shot], "{examples}{text}"))
    assert text.count("{text}{examples}{annotation}") == 1 and "<d>{text}</d>{examples}" in text
    assert text.endswith("テキスト：{examples}{text}\n\nアノテーション：")


def test_servers_find_the_note_in_the_prompt():
    body = {"messages": [{"content": prompt_string(build_prompt("icl_ja", [note(1)], "発熱。\n咳。"))}]}
    assert servers.note_of(body) == "発熱。\n咳。"


# --- example notes ---------------------------------------------------------------------------------------------------


def test_example_notes_are_drawn_by_seed_from_the_training_part_alone(notes):
    train, test = notes[:8], notes[8:]
    chosen = {seed: [d.id for d in icl.fit(train, settings(shots=2), seed=seed).shots] for seed in range(20)}
    assert chosen[0] == [d.id for d in icl.fit(train, settings(shots=2), seed=0).shots]
    assert len({tuple(c) for c in chosen.values()}) > 5
    assert not {d.id for d in test} & {name for names in chosen.values() for name in names}


def test_more_shots_keep_the_fewer_ones(notes):
    one, three = (icl.fit(notes, settings(shots=k), seed=4).shots for k in (1, 3))
    assert three[:1] == one


def test_too_many_shots_are_refused(notes):
    with pytest.raises(DataError, match="shots: 13 annotated notes are wanted, the training part has 12"):
        icl.fit(notes, settings(shots=13), seed=0)


@pytest.mark.parametrize("size", [10, 40, 200])
def test_a_long_example_is_cut_to_whole_lines_with_its_entities(size):
    for document in read_corpus(ROOT / "data" / "pn").documents[:20]:
        short = shortened(document, size)
        assert short.text in document.text and not problems(short)
        assert {short.surface(e) for e in short.entities} <= {document.surface(e) for e in document.entities}
        assert short.text.splitlines()[0] in document.text.splitlines()


# --- local models ----------------------------------------------------------------------------------------------------


@pytest.fixture
def local(micro_llm):
    return IclSettings(model=str(micro_llm), prompt="tiny_icl", unit="sentence", tokens_per_character=1.0, shots=1)


@pytest.mark.parametrize("decoding", ["free", "copy"])
def test_a_local_model_gives_every_note_one_prediction_with_its_raw_answer(local, notes, decoding):
    tagger = icl.fit(notes[:6], replace(local, decoding=decoding), seed=0)
    predictions = tagger.predict(notes[6:])
    assert [p.document_id for p in predictions] == [d.id for d in notes[6:]]
    for document, p in zip(notes[6:], predictions, strict=True):
        assert not problems(replace(document, entities=p.entities))
        assert p.raw.count(icl.PIECE_END) == len(icl.sentence_spans(document)) - 1
        assert decoding == "free" or not p.repairs
    prompts = [tagger.local.prompt_ids(piece.prompt) for piece in tagger.pieces(notes[6:])]
    assert tagger.used.prompt == sum(map(len, prompts))
    if decoding == "copy":  # a tag is one token
        texts = [piece.text for piece in tagger.pieces(notes[6:])]
        n_text = sum(map(len, tagger.local.tokenizer(texts, add_special_tokens=False)["input_ids"]))
        assert tagger.used.answer == n_text + 2 * sum(len(p.entities) for p in predictions)


def test_the_same_seed_gives_the_same_answers(local, notes):
    first, second = (icl.fit(notes[:6], local, seed=1).predict(notes[6:8]) for _ in range(2))
    assert first == second


def test_batches_do_not_change_greedy_answers(local, notes):
    one, many = (icl.fit(notes[:6], replace(local, decode_batch_size=n), seed=0).predict(notes[6:]) for n in (1, 16))
    assert [p.raw for p in one] == [p.raw for p in many]


@pytest.mark.parametrize("wanted", [True, False])
def test_bf16_answers_with_products_in_bf16_on_a_cpu_and_nothing_else_does(local, notes, wanted, monkeypatch):
    matmul = torch.backends.mkldnn.matmul
    before, seen = matmul.fp32_precision, []
    monkeypatch.setattr(LocalModel, "_copied", lambda *_: seen.append(matmul.fp32_precision) or [])
    model = icl.IclTagger(replace(local, decoding="copy", bf16=wanted), (), 0).local
    with pytest.raises(ValueError, match="zip"):  # the stand-in answers nothing
        model.answers([build_prompt("tiny_icl", [], "発熱")], ["発熱"])
    assert seen == ["bf16" if wanted and device().type == "cpu" else before] and matmul.fp32_precision == before


def test_a_prompt_without_room_for_an_answer_is_a_recorded_state(local, notes):
    (prediction,) = icl.fit(notes[:6], replace(local, max_length=10), seed=0).predict([Document("x", "発熱あり。")])
    assert prediction.repairs == {"answer: too long": 1} and not prediction.entities


def test_special_tokens_in_a_note_are_plain_characters(local):
    model = icl.IclTagger(local, (), 0).local
    special = model.tokenizer.all_special_ids
    ids = model.prompt_ids(build_prompt("tiny_icl", [], "[SEP]発熱<d>"))
    assert ids[0] in special and not set(ids[1:]) & (set(special) - {model.tokenizer.unk_token_id})


def test_example_notes_are_written_with_the_tags_own_tokens(local, notes):
    model = icl.IclTagger(local, (), 0).local
    ids = model.prompt_ids(build_prompt("tiny_icl", [notes[0]], "発熱"))
    assert ids.count(model.tags.open["d"][0]) == len(notes[0].entities) == ids.count(model.tags.close["d"][0])


# --- afterwards ------------------------------------------------------------------------------------------------------


def test_answers_are_read_again_under_the_other_policy(local, notes, tmp_path):
    tagger = icl.fit(notes[:6], local, seed=0)
    corpus = Corpus("C", notes[6:])
    write_predictions(tagger.predict(corpus), corpus, tmp_path / "C.jsonl")
    kept = read_predictions(tmp_path / "C.jsonl", corpus)
    strict = icl.reread(corpus, kept, replace(local, policy="strict"))
    assert icl.reread(corpus, kept, local) == kept
    assert all({*p.entities} <= {*k.entities} for p, k in zip(strict, kept, strict=True))


def test_a_saved_tagger_holds_no_text_and_loads_with_its_notes(local, notes, tmp_path):
    tagger = icl.fit(notes[:6], local, seed=3)
    tagger.save(tmp_path)
    assert all(d.text[:8] not in (tmp_path / "settings.json").read_text(encoding="utf-8") for d in notes)
    again = icl.load(tmp_path, notes)
    assert (again.shots, again.settings, again.seed) == (tagger.shots, tagger.settings, 3)
    with pytest.raises(DataError, match="1 of them are not at hand"):
        icl.load(tmp_path, notes[6:])


def test_damage_is_counted_by_kind_and_by_note(notes):
    outcomes = [icl.Outcome("length", "<d>発熱"), icl.Outcome("refusal"), icl.Outcome("stop", "咳")]
    texts = ["発熱が続く", "咳", "咳"]
    documents = [Document(str(k), text) for k, text in enumerate(texts)]
    pieces = [icl.Piece(k, 0, text, ()) for k, text in enumerate(texts)]
    table = icl.damage_table(icl.predictions_of(documents, pieces, outcomes, settings()))
    assert table.loc["answer: length", "notes (of 3)"] == 1 and table.loc["answer: refusal", "times"] == 1
    assert table.loc["tag unclosed", "times"] == table.loc["cut off", "times"] == 1


def test_a_server_around_a_model_answers_like_the_model_in_this_process(micro_llm, local, notes, tmp_path):
    """A real process that speaks the protocol; transformers' own server wants packages that are not installed."""
    command = [sys.executable, str(ROOT / "tests" / "prompting" / "servers.py"), "model", str(micro_llm)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        remote = replace(settings_for(int(server.stdout.readline()), tmp_path), prompt="tiny_icl", unit="sentence",
                         tokens_per_character=1.0, timeout=60.0)  # fmt: skip
        there = icl.fit(notes, remote, seed=0).predict(notes[:2])
    finally:
        server.kill()
    here = icl.fit(notes, replace(local, shots=0), seed=0).predict(notes[:2])
    assert [p.entities for p in there] == [p.entities for p in here]
    assert all(p.raw for p in there)
