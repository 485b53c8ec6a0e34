"""With a model that makes no mistake the language model's way loses nothing: train == inference, token by token."""

import random

import pytest
from conftest import CORPORA, SHARED, uncounted, whole_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils import ROOT
from nbutils.corpus import Corpus, Document, Entity
from nbutils.scoring.spans import exact_scores
from nbutils.taggers import lora
from nbutils.taggers.settings import LoraSettings
from tools import tokenizer_check

LLAMA = SHARED / "tokenizers" / "llama-3"
needs_llama = pytest.mark.skipif(not LLAMA.is_dir(), reason="needs tokenizers/llama-3")


@pytest.fixture(scope="module")
def llama():
    tokenizer = tokenizer_check.load_tokenizer(LLAMA)
    tokenizer.add_special_tokens({"eos_token": "<|eot_id|>"})
    return tokenizer


class Oracle:
    """A language model that has learned its training rows by heart: after a prompt it writes the target's tokens.

    It may write only what the decoder's automaton allows at that place; a target that leaves it fails here.
    """

    def __init__(self, rows):
        self.targets = {}
        for row in rows:
            n = row["labels"].index(next(k for k in row["labels"] if k != -100))
            self.targets[tuple(row["input_ids"][:n])] = row["input_ids"][n:]

    def eval(self):
        return self

    def decode(self, model, prompts, copiers, **options):
        return [self._write(self.targets[tuple(p)], c) for p, c in zip(prompts, copiers, strict=True)]

    def _write(self, target, copier):
        written, node = [], copier.start
        while allowed := copier.steps(node):
            token = target[len(written)]
            written.append(token)
            node = allowed[token]
        assert len(written) == len(target) - 1  # all but the end-of-text token
        return written, [0.0] * len(written)


def oracle_f1(documents, tokenizer, config):
    """Exact F1 of a tagger that has learned these documents by heart, through training rows and the automaton."""
    tagger = lora.LoraTagger(None, tokenizer, config)
    tagger.model = Oracle(lora.examples(documents, tokenizer, config, tagger.tags))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lora, "shared_prefix", lambda model, prompts: None)
        patch.setattr(lora, "decode", tagger.model.decode)
        return exact_scores(documents, tagger.predict(documents)).f1


@needs_llama
@pytest.mark.parametrize("unit", ["sentence", "note"])
@pytest.mark.parametrize("name", CORPORA)
def test_a_perfect_llama_3_scores_100_on_notes_drawn_at_random(name, unit, llama):
    documents = random.Random(0).sample(list(whole_corpus(name)), 3)
    config = LoraSettings(model="oracle", unit=unit, decode_batch_size=8)
    assert oracle_f1(documents, llama, config) == 1


@needs_llama
@pytest.mark.parametrize("name", CORPORA)
@uncounted
def test_every_gold_entity_of_every_corpus_survives_llama_3s_tokens(name, llama):
    """Every token of every training target is allowed in decoding, and the target is read back to F1 = 100."""
    trip = tokenizer_check.copy_round_trip(whole_corpus(name), llama)
    assert trip.entities == trip.exact > 500 and trip.f1 == 100
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
        trip = tokenizer_check.copy_round_trip(Corpus("x", (Document("x", text, gold),)), llama, "note")
        assert trip.exact == trip.entities and trip.spurious == 0

    check()


@pytest.mark.parametrize("unit", ["sentence", "note"])
def test_a_tagger_that_knows_the_answers_scores_100_with_any_tokenizer(unit, notes, bpe_tokenizer):
    config = LoraSettings(model="oracle", unit=unit, decode_batch_size=4)
    assert oracle_f1(notes, bpe_tokenizer, config) == 1


def test_the_command_prints_a_rate_for_each_corpus(tmp_path, micro_encoder, capsys):
    assert tokenizer_check.main(["bio", str(micro_encoder), str(ROOT / "data" / "cr-second")]) == 0
    out = capsys.readouterr().out
    assert "rate (%)" in out and "cr-second" in out
    assert tokenizer_check.main(["copy", str(tmp_path), str(ROOT / "data" / "cr-second")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
