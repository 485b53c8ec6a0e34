"""Constrained copy decoding: the same answer as one token at a time, and always the text itself."""

import itertools
import random

import pytest
import torch
from conftest import DISEASES
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CohereConfig,
    DynamicCache,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from nbutils.copydecode import Copier, TagTokens, decode
from nbutils.corpus import Entity
from nbutils.tiny import character_tokenizer

LABELS = ("d", "a", "timex3")
ALPHABET = "発熱と咳嗽。、なし\n aB1ｶﾞ゙㎎①栄𠮷<d>/"
CHARACTERS = character_tokenizer([ALPHABET, "ガmg"], LABELS)


@pytest.fixture(scope="module")
def tokenizers(bpe_tokenizer):
    return {"character": CHARACTERS, "bpe": bpe_tokenizer}


def random_model(kind=LlamaConfig, seed=0, vocabulary=700, **options):
    """Two layers of noise with strong opinions, in double precision so that nothing but a real tie is close."""
    config = kind(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=512, initializer_range=0.3, pad_token_id=0, bos_token_id=0, eos_token_id=0, **options,
    )  # fmt: skip
    torch.manual_seed(seed)
    return MODEL_FOR_CAUSAL_LM_MAPPING[kind](config).double().eval()


@torch.inference_mode()
def one_token_at_a_time(model, prompt, copier):
    """The judge: the whole sequence through the model's own forward for each token, no cache, no draft."""
    node, tokens, log_probs = copier.start, [], []
    while not copier.finished(node):
        allowed = copier.steps(node)
        candidates = list(allowed)
        logits = model(input_ids=torch.tensor([[*prompt, *tokens]]), use_cache=False).logits[0, -1, candidates]
        log_prob, best = logits.float().log_softmax(-1).max(-1)
        tokens.append(candidates[int(best)])
        log_probs.append(float(log_prob))
        node = allowed[tokens[-1]]
    return tokens, log_probs


def assert_same_answers(model, prompts, copiers, window=32):
    for (tokens, log_probs), prompt, copier in zip(
        decode(model, prompts, copiers, window=window), prompts, copiers, strict=True
    ):
        judge_tokens, judge_log_probs = one_token_at_a_time(model, prompt, copier)
        assert tokens == judge_tokens
        assert log_probs == pytest.approx(judge_log_probs, abs=1e-4)
        found, expected = copier.read(tokens, log_probs), copier.read(judge_tokens, judge_log_probs)
        assert found == expected
        assert [e.score for e in found] == pytest.approx([e.score for e in expected], abs=1e-4)


def prompts_for(seed, n):
    rng = random.Random(seed)
    return [[rng.randrange(700) for _ in range(rng.randint(1, 30))] for _ in range(n)]


@st.composite
def entities_in(draw, text, labels=LABELS):
    """Entities that neither overlap nor run across a line break."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    spans = [(s, e) for s, e in itertools.pairwise(cuts) if s < e and not set("\r\n") & set(text[s:e])]
    return [Entity(s, e, draw(st.sampled_from(labels))) for s, e in spans if draw(st.booleans())]


# --- the same answer ------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    texts=st.lists(st.text(ALPHABET, max_size=14), min_size=1, max_size=4),
    labels=st.integers(1, 3),
    window=st.sampled_from([1, 2, 3, 7, 64]),
    heads=st.sampled_from([1, 2, 4]),
    tied=st.booleans(),
    name=st.sampled_from(["character", "bpe"]),
    seed=st.integers(0, 10**6),
)
def test_decoding_gives_the_answer_of_one_token_at_a_time(tokenizers, texts, labels, window, heads, tied, name, seed):
    model = random_model(seed=seed, num_key_value_heads=heads, tie_word_embeddings=tied)
    tags = TagTokens(tokenizers[name], LABELS[:labels])
    assert_same_answers(model, prompts_for(seed, len(texts)), [Copier(tags, text) for text in texts], window)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Qwen2Config, {"num_key_value_heads": 2}),
        (Qwen3Config, {"num_key_value_heads": 2, "head_dim": 8}),
        (MistralConfig, {"num_key_value_heads": 2, "sliding_window": None}),
        (Gemma2Config, {"num_key_value_heads": 2, "head_dim": 8, "final_logit_softcapping": 3.0}),
        (GraniteConfig, {"num_key_value_heads": 2, "logits_scaling": 8.0}),
        (CohereConfig, {"num_key_value_heads": 2, "logit_scale": 0.3}),
    ],
)
def test_families_that_rescale_their_logits_answer_the_same(tokenizers, kind, options):
    model = random_model(kind, **options)
    copiers = [Copier(TagTokens(t, LABELS), "発熱と咳嗽、栄養なし。\n１２ mg") for t in tokenizers.values()]
    assert_same_answers(model, prompts_for(1, 2), copiers, window=4)


@pytest.mark.parametrize(
    ("tied", "options"),
    [
        (True, {"target_modules": "all-linear"}),
        (False, {"target_modules": "all-linear"}),
        (True, {"target_modules": "all-linear", "trainable_token_indices": [5, 6, 7, 8]}),  # the tags' embeddings
        (False, {"target_modules": "all-linear", "trainable_token_indices": [5, 6, 7, 8]}),
        (False, {"target_modules": ["q_proj", "lm_head"]}),
    ],
)
def test_a_model_with_an_adapter_answers_with_its_adapter(tied, options):
    torch.manual_seed(1)
    base = random_model(tie_word_embeddings=tied)
    model = get_peft_model(base, LoraConfig(r=4, init_lora_weights=False, task_type="CAUSAL_LM", **options))
    for name, parameter in model.named_parameters():
        if "trainable_tokens_delta" in name:
            torch.nn.init.normal_(parameter)
    model = model.double().eval()
    copier = Copier(TagTokens(CHARACTERS, LABELS), "発熱と咳嗽なし。aB1発熱と咳嗽。")
    assert_same_answers(model, prompts_for(2, 1), [copier], window=4)
    with model.disable_adapter():
        without = one_token_at_a_time(model, prompts_for(2, 1)[0], copier)
    assert decode(model, prompts_for(2, 1), [copier])[0][1] != pytest.approx(without[1], abs=1e-4)


def test_a_row_answers_the_same_alone_and_among_longer_ones():
    model = random_model()
    copiers = [
        Copier(TagTokens(CHARACTERS, ["d"]), text) for text in ("発熱", "咳嗽なし。" * 12, "と", "発熱と咳嗽" * 5)
    ]
    prompts = prompts_for(3, 4)
    together = decode(model, prompts, copiers, window=2)
    for prompt, copier, (tokens, _) in zip(prompts, copiers, together, strict=True):
        assert decode(model, [prompt], [copier], window=2)[0][0] == tokens


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


def every_set_of_entities(text, labels, at=0):
    if at == len(text):
        return [[]]
    found = every_set_of_entities(text, labels, at + 1)
    for end in range(at + 1, len(text) + 1):
        if not set("\r\n") & set(text[at:end]):
            found += [
                [Entity(at, end, label), *rest] for label in labels for rest in every_set_of_entities(text, labels, end)
            ]
    return found


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


# --- speed ----------------------------------------------------------------------------------------------------------


class Knowing(torch.nn.Module):
    """A language model that knows the answer to each prompt: at every position it expects the answer's next token."""

    def __init__(self, prompts, answers, vocabulary):
        super().__init__()
        self.expected = [[0] * (len(p) - 1) + list(a) for p, a in zip(prompts, answers, strict=True)]
        self.head = torch.nn.Linear(vocabulary, vocabulary, bias=False)
        torch.nn.init.eye_(self.head.weight)
        self.config = LlamaConfig()
        self.forwards = 0

    def get_decoder(self):
        return self

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, position_ids, attention_mask, past_key_values, use_cache):
        self.forwards += 1
        (row,) = self.expected
        hidden = torch.zeros(*input_ids.shape, self.head.in_features)
        for k, position in enumerate(position_ids[0].tolist()):
            if position < len(row):
                hidden[0, k, row[position]] = 50.0
        cache = past_key_values or DynamicCache()
        return type("Output", (), {"last_hidden_state": hidden, "past_key_values": cache})


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 64))
def test_decoding_follows_a_model_that_knows_the_answer_in_few_passes(tokenizers, data, window):
    text = data.draw(st.text(ALPHABET, min_size=1, max_size=60))
    entities = data.draw(entities_in(text, ("d",)))
    copier = Copier(TagTokens(CHARACTERS, ["d"]), text)
    answer = copier.write(entities)
    model = Knowing([[1, 2, 3]], [answer], len(CHARACTERS))
    ((tokens, _),) = decode(model, [[1, 2, 3]], [copier], window=window)
    assert tokens == answer
    assert model.forwards <= 2 * len(entities) + -(-len(tokens) // window) + 1


@pytest.mark.parametrize("window", [1, 8, 32])
def test_a_real_model_needs_two_passes_an_entity_and_one_a_window(window):
    model = random_model()
    passes = []
    model.get_decoder().register_forward_hook(lambda *_: passes.append(1))
    copier = Copier(TagTokens(CHARACTERS, LABELS), "発熱と咳嗽、なし。aB1" * 8)
    ((tokens, _),) = decode(model, [[1, 2]], [copier], window=window)
    assert len(passes) <= 2 * len(copier.read(tokens)) + -(-len(tokens) // window) + 1
    assert len(passes) < len(tokens)


def test_an_empty_text_costs_nothing():
    assert decode(random_model(), [[1], [1]], [Copier(TagTokens(CHARACTERS, ["d"]), "")] * 2) == [([], [])] * 2
