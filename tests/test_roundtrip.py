"""With a model that makes no mistake the language model's way loses nothing: train == inference, token by token."""

import random

import pytest
import torch
from conftest import JMED, SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, LlamaConfig

from nbutils import ROOT, lora, roundtrip
from nbutils.corpus import Corpus, Document, Entity
from nbutils.formats import read_corpus
from nbutils.scores import exact_scores
from nbutils.settings import LoraSettings

LLAMA = SHARED / "tokenizers" / "llama-3"
needs_llama = pytest.mark.skipif(not LLAMA.is_dir(), reason="needs tokenizers/llama-3")
needs_jmed = pytest.mark.skipif(not JMED.is_dir(), reason="needs jmed-llm (JMED_LLM_DIR)")
CORPORA = ["cr", "pn", pytest.param("CRNER", marks=needs_jmed), pytest.param("NRNER", marks=needs_jmed)]


def corpus(name):
    if name in ("cr", "pn"):
        return read_corpus(ROOT / "data" / name, "medtxt")
    return read_corpus(JMED / f"{name}.csv", "jmed")


@pytest.fixture(scope="module")
def llama():
    tokenizer = roundtrip.load_tokenizer(LLAMA)
    tokenizer.add_special_tokens({"eos_token": "<|eot_id|>"})
    return tokenizer


class Oracle(torch.nn.Module):
    """A language model that has learned its training rows by heart: after a prompt it expects the target's tokens."""

    def __init__(self, rows, vocabulary, width=64):
        super().__init__()
        self.targets = {}
        for row in rows:
            n = row["labels"].index(next(k for k in row["labels"] if k != -100))
            self.targets[tuple(row["input_ids"][:n])] = row["input_ids"]
        self.config = LlamaConfig()
        self.head = torch.nn.Linear(width, vocabulary, bias=False)
        torch.manual_seed(0)
        self.head.weight = torch.nn.Parameter(torch.nn.functional.normalize(torch.randn(vocabulary, width)), False)

    def get_decoder(self):
        return self

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, position_ids, attention_mask, past_key_values, use_cache):
        cache = past_key_values
        if cache is None:  # the first pass has the whole prompt of every row, and a draft behind it
            cache = DynamicCache()
            cache.rows = [self._row(ids) for ids in input_ids.tolist()]
            cache.batch_select_indices = lambda index: setattr(cache, "rows", [cache.rows[k] for k in index.tolist()])
        out = torch.zeros(*input_ids.shape, self.head.in_features)
        for k, row in enumerate(cache.rows):
            for j, position in enumerate(position_ids[k].tolist()):
                if position + 1 < len(row):
                    out[k, j] = 50 * self.head.weight[row[position + 1]]
        return type("Output", (), {"last_hidden_state": out, "past_key_values": cache})

    def _row(self, ids):
        return next(self.targets[tuple(ids[:n])] for n in range(len(ids), 0, -1) if tuple(ids[:n]) in self.targets)


def oracle_f1(documents, tokenizer, config):
    """Exact F1 of a tagger that has learned these documents by heart, through training rows and decoding."""
    tagger = lora.LoraTagger(None, tokenizer, config)
    rows = lora.examples(documents, tokenizer, config, tagger.tags)
    tagger.model = Oracle(rows, len(tokenizer))
    return exact_scores(documents, tagger.predict(documents)).f1


@needs_llama
@pytest.mark.parametrize("unit", ["sentence", "note"])
@pytest.mark.parametrize("name", CORPORA)
def test_a_perfect_llama_3_scores_100_on_notes_drawn_at_random(name, unit, llama):
    documents = random.Random(0).sample(list(corpus(name)), 3)
    config = LoraSettings(model="oracle", unit=unit, decode_batch_size=8)
    assert oracle_f1(documents, llama, config) == 1


@needs_llama
@pytest.mark.parametrize("name", CORPORA)
def test_every_gold_entity_of_every_corpus_survives_llama_3s_tokens(name, llama):
    """Every token of every training target is allowed in decoding, and the target is read back to F1 = 100."""
    trip = roundtrip.copy_round_trip(corpus(name), llama)
    assert trip.entities == trip.exact > 1000 and trip.f1 == 100
    assert trip.merged > 0  # some entities do begin or end inside a token of the whole text


@needs_llama
def test_entities_at_any_character_survive_merged_and_split_characters(llama):
    """A border inside "。\\n", inside a word of one token, and beside characters of several tokens each."""

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def check(data):
        alphabet = st.sampled_from("栄養障害𠮷疣贅abdominal 120mg。、\n①㎎ｶﾞ゙\u3000<d>/") | st.characters()
        text = data.draw(st.text(alphabet, max_size=24))
        for tag in ("<d>", "</d>"):
            text = text.replace(tag, "")
        cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
        spans = zip(cuts[::2], cuts[1::2], strict=False)
        gold = tuple(Entity(s, e) for s, e in spans if not set("\r\n") & set(text[s:e]))
        trip = roundtrip.copy_round_trip(Corpus("x", (Document("x", text, gold),)), llama, "note")
        assert trip.exact == trip.entities and trip.spurious == 0

    check()


@pytest.mark.parametrize("unit", ["sentence", "note"])
def test_a_tagger_that_knows_the_answers_scores_100_with_any_tokenizer(unit, notes, bpe_tokenizer):
    config = LoraSettings(model="oracle", unit=unit, decode_batch_size=4)
    assert oracle_f1(notes, bpe_tokenizer, config) == 1


def test_the_command_prints_a_rate_for_each_corpus(tmp_path, micro_encoder, capsys):
    assert roundtrip.main(["bio", str(micro_encoder), str(ROOT / "data" / "cr-second")]) == 0
    out = capsys.readouterr().out
    assert "rate (%)" in out and "cr-second" in out
    assert roundtrip.main(["copy", str(tmp_path), str(ROOT / "data" / "cr-second")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
