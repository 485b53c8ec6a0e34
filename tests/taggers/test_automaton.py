"""The automaton of a tagged copy: exactly the ways to write a text with entities, and back."""

import itertools
import random

import pytest
import torch
from conftest import DISEASES
from copies import ALPHABET, CHARACTERS, LABELS, entities_in, every_set_of_entities
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from nbutils.corpus import Entity
from nbutils.taggers.copying.automaton import Copier, TagTokens


@pytest.fixture(scope="module")
def tokenizers(bpe_tokenizer):
    return {"character": CHARACTERS, "bpe": bpe_tokenizer}


# --- what the automaton allows --------------------------------------------------------------------------------------


def every_answer(copier):
    """All token sequences of the automaton, by brute force; fails where a text cannot be finished."""
    answers, stack = [], [((), copier.start)]
    while stack:
        tokens, node = stack.pop()
        if copier.finished(node):
            answers.append(tokens)
            continue
        steps = copier.steps(node)
        assert steps, f"a dead end after {tokens}"
        stack += [((*tokens, token), behind) for token, behind in steps.items()]
    return answers


@pytest.mark.parametrize("name", ["character", "bpe"])
@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("発熱と", "da"),
        ("発熱なし", "d"),
        ("なし。\n熱", "d"),  # one BPE token runs across the line's end
        ("。\r\n\n。", "d"),
        ("\n熱", "d"),
        ("熱\n", "d"),
        ("栄𠮷", "da"),  # several tokens to a character
        ("ｶﾞ゙㎎", "d"),
        ("abdom", "d"),
        ("120", "da"),
        (" a ", "d"),
        ("<d熱", "d"),
        ("</d", "d"),
        ("", "d"),
    ],
)
def test_the_automaton_allows_exactly_the_ways_to_write_the_text_with_entities(tokenizers, name, text, labels):
    copier = Copier(TagTokens(tokenizers[name], list(labels)), text)
    written = {tuple(copier.write(entities)) for entities in every_set_of_entities(text, list(labels))}
    answers = every_answer(copier)
    assert set(answers) == written
    assert len(answers) == len(set(answers))


@settings(max_examples=200, deadline=None)
@given(st.text(st.one_of(st.sampled_from(ALPHABET), st.characters()), max_size=24), st.integers(0, 2**32 - 1))
def test_whatever_is_decoded_tags_whole_stretches_of_lines(tokenizers, text, seed):
    rng = random.Random(seed)
    for tokenizer in tokenizers.values():
        copier = Copier(TagTokens(tokenizer, LABELS), text)
        node, tokens = copier.start, []
        while not copier.finished(node):
            token, node = rng.choice(list(copier.steps(node).items()))
            tokens.append(token)
        entities = copier.read(tokens)
        for entity in entities:
            assert 0 <= entity.start < entity.end <= len(text)
            assert not set("\r\n") & set(text[entity.start : entity.end])
        assert all(one.end <= other.start for one, other in itertools.pairwise(entities))
        assert copier.write(entities) == tokens


# --- write and read -------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_entities_written_with_tags_that_are_tokens_are_read_back_from_any_known_text(data):
    """Literal tags included: the note's "<d>" is three tokens, the tag is one."""
    text = data.draw(
        st.text(ALPHABET.replace("𠮷", ""), max_size=30) | st.sampled_from(["a</d>", "<d>a", "<d>a</d><d>"])
    )
    entities = data.draw(entities_in(text))
    copier = Copier(TagTokens(CHARACTERS, LABELS), text)
    assert [e.key for e in copier.read(copier.write(entities))] == [e.key for e in entities]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_entities_written_with_byte_level_bpe_are_read_back_from_any_text_without_literal_tags(tokenizers, data):
    words = st.sampled_from(ALPHABET) | st.sampled_from(DISEASES) | st.characters()
    text = "".join(data.draw(st.lists(words, max_size=20)))
    for tag in (f"<{slash}{label}>" for label in LABELS for slash in ("", "/")):
        text = text.replace(tag, "")
    entities = data.draw(entities_in(text))
    copier = Copier(TagTokens(tokenizers["bpe"], LABELS), text)
    assert [e.key for e in copier.read(copier.write(entities))] == [e.key for e in entities]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_read_writes_the_same_tokens_even_where_a_literal_tag_makes_them_ambiguous(tokenizers, data):
    text = "".join(data.draw(st.lists(st.sampled_from(["<d>", "</d>", "<", "</", "d", ">", "熱", "\n"]), max_size=10)))
    entities = data.draw(entities_in(text, ("d",)))
    copier = Copier(TagTokens(tokenizers["bpe"], ["d"]), text)
    tokens = copier.write(entities)
    assert copier.write(copier.read(tokens)) == tokens


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_byte_level_tokens_spell_the_text_with_its_tags(tokenizers, data):
    text = data.draw(st.text(ALPHABET, max_size=20))
    entities = data.draw(entities_in(text))
    marked, at = "", 0
    for e in entities:
        marked += f"{text[at : e.start]}<{e.label}>{text[e.start : e.end]}</{e.label}>"
        at = e.end
    tokens = Copier(TagTokens(tokenizers["bpe"], LABELS), text).write(entities)
    assert tokenizers["bpe"].decode(tokens) == marked + text[at:]


def test_a_text_without_entities_keeps_its_own_tokens(bpe_tokenizer):
    text = "発熱と咳嗽なし。\n120 mg"
    assert Copier(TagTokens(bpe_tokenizer, ["d"]), text).write([]) == bpe_tokenizer(text)["input_ids"]


def test_characters_that_the_tokenizer_drops_stay_outside_of_entities():
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2, "<d>": 3, "</d>": 4}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    dropping = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    copier = Copier(TagTokens(dropping, ["d"]), " a  b ")
    assert copier.write([Entity(1, 2), Entity(4, 5)]) == [3, 1, 4, 3, 2, 4]
    assert [(e.start, e.end) for e in copier.read([3, 1, 4, 3, 2, 4])] == [(1, 2), (4, 5)]
    assert Copier(TagTokens(dropping, ["d"]), "  ").read([]) == []


@pytest.mark.parametrize("spans", [[(0, 2), (1, 3)], [(1, 1)], [(2, 9)], [(-1, 1)]])
def test_entities_that_cannot_be_tagged_are_refused(spans):
    with pytest.raises(ValueError, match="entity"):
        Copier(TagTokens(CHARACTERS, ["d"]), "発熱と").write([Entity(s, e) for s, e in spans])


def test_tokens_of_another_text_are_refused():
    tags = TagTokens(CHARACTERS, ["d"])
    with pytest.raises(ValueError, match="do not write the text"):
        Copier(tags, "発熱").read(Copier(tags, "咳嗽").write([]))


def test_an_entitys_score_is_the_product_over_its_tags_and_text():
    copier = Copier(TagTokens(CHARACTERS, ["d"]), "と発熱と")
    tokens = copier.write([Entity(1, 3)])
    log_probs = torch.tensor([0.3, 0.5, 0.8, 1.0, 0.5, 0.1]).log().tolist()
    assert len(tokens) == len(log_probs)
    (entity,) = copier.read(tokens, log_probs)
    assert entity.score == pytest.approx(0.5 * 0.8 * 1.0 * 0.5)


def test_the_ways_of_a_tag_inside_a_token_are_listed_to_its_end(bpe_tokenizer):
    """Behind the first byte of "発熱", cut for a tag, the cut may only be after 発; the label is open."""
    copier = Copier(TagTokens(bpe_tokenizer, ["d", "a"]), "発熱")
    whole, *cut = (list(copier.write(e)) for e in ([], [Entity(1, 2, "d")], [Entity(1, 2, "a")]))
    first = cut[0][0]
    assert first not in (whole[0], copier.tags.open["d"][0])
    opened = [[*c[1 : -len(copier.tags.close["d"])]] for c in cut]
    ways = copier.ways(copier.steps(copier.start)[first])
    assert all(any(o[: len(way)] == way for way in ways) for o in opened)
    assert copier.ways(copier.start) == [[]]
