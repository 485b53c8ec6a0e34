"""Constrained copy decoding: the same answer as one token at a time, in few passes, for any model it accepts."""

import random

import pytest
import torch
from copies import (
    ALPHABET,
    CHARACTERS,
    LABELS,
    VOCABULARY,
    allowed_by_listing,
    allowed_by_steps,
    entities_in,
    one_token_at_a_time,
    random_model,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import (
    BloomConfig,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    HyperCLOVAXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.modeling_outputs import CausalLMOutput

from nbutils.files import DataError
from nbutils.taggers.copying.decode import Copier, SharedPrefix, TagTokens, decode, shared_prefix
from nbutils.taggers.lora import LoraTagger, folded
from nbutils.taggers.settings import LoraSettings

TEXTS = ("発熱と咳嗽、栄養なし。\n１２ mg", "発熱", "咳嗽なし。" * 4)


@pytest.fixture(scope="module")
def tokenizers(bpe_tokenizer):
    return {"character": CHARACTERS, "bpe": bpe_tokenizer}


def assert_same_answers(model, prompts, copiers, judges=None, tolerance=1e-4, **options):
    """The same tokens, the same entities and the same probabilities as the judge's."""
    judges = judges or [allowed_by_steps(copier) for copier in copiers]
    answers = decode(model, prompts, copiers, **options)
    for (tokens, log_probs), prompt, copier, allowed in zip(answers, prompts, copiers, judges, strict=True):
        judge_tokens, judge_log_probs = one_token_at_a_time(model, prompt, allowed)
        assert tokens == judge_tokens
        assert log_probs == pytest.approx(judge_log_probs, abs=tolerance)
        found, expected = copier.read(tokens, log_probs), copier.read(judge_tokens, judge_log_probs)
        assert found == expected
        assert [e.score for e in found] == pytest.approx([e.score for e in expected], abs=tolerance)


def prompts_for(seed, n, shared=0):
    rng = random.Random(seed)
    begin = [rng.randrange(VOCABULARY) for _ in range(shared)]
    return [begin + [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 30))] for _ in range(n)]


# --- the same answer ------------------------------------------------------------------------------------------------


@settings(max_examples=45, deadline=None, derandomize=True)
@given(
    texts=st.lists(st.text(ALPHABET, max_size=14), min_size=1, max_size=6),
    labels=st.integers(1, 3),
    window=st.sampled_from([1, 2, 3, 7, 64, None]),
    shared=st.sampled_from([0, 3, 40]),
    heads=st.sampled_from([1, 2, 4]),
    tied=st.booleans(),
    name=st.sampled_from(["character", "bpe"]),
    seed=st.integers(0, 10**6),
)
def test_decoding_gives_the_answer_of_one_token_at_a_time(
    tokenizers, texts, labels, window, shared, heads, tied, name, seed
):
    model = random_model(seed=seed, num_key_value_heads=heads, tie_word_embeddings=tied)
    tags = TagTokens(tokenizers[name], LABELS[:labels])
    copiers = [Copier(tags, text) for text in texts]
    assert_same_answers(model, prompts_for(seed, len(texts), shared), copiers, window=window)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    text=st.text("発熱栄ｶﾞ㎎\n <d", max_size=4),
    labels=st.integers(1, 2),
    window=st.integers(1, 9),
    seed=st.integers(0, 10**6),
)
def test_the_answer_is_the_best_next_token_of_all_that_can_be_written(tokenizers, text, labels, window, seed):
    """Against a judge that knows no automaton: it lists every set of entities of a short text."""
    model = random_model(seed=seed)
    copiers = [Copier(TagTokens(tokenizer, LABELS[:labels]), text) for tokenizer in tokenizers.values()]
    judges = [allowed_by_listing(copier, LABELS[:labels]) for copier in copiers]
    assert_same_answers(model, prompts_for(seed, 2), copiers, judges, window=window)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(size=st.integers(1, 4), shared=st.integers(0, 60), n=st.integers(2, 7), seed=st.integers(0, 10**6))
def test_a_prefix_computed_once_serves_every_batch(tokenizers, size, shared, n, seed):
    model = random_model(seed=seed)
    prompts = prompts_for(seed, n, shared)
    copiers = [Copier(TagTokens(tokenizers["bpe"], LABELS), TEXTS[k % len(TEXTS)]) for k in range(n)]
    prefix = shared_prefix(model, prompts)
    assert len(prefix.tokens) >= shared or shared < 16
    for k in range(0, n, size):
        assert_same_answers(model, prompts[k : k + size], copiers[k : k + size], window=4, prefix=prefix)


def test_a_shared_prefix_is_fed_once(tokenizers):
    model, fed = random_model(), []
    model.get_decoder().register_forward_hook(
        lambda _, __, kwargs, ___: fed.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    prompts = [[*range(100, 300), k] for k in range(8)]
    prefix = shared_prefix(model, prompts)
    assert fed == [200]
    copier = Copier(TagTokens(CHARACTERS, ["d"]), "発熱")
    decode(model, prompts, [copier] * 8, prefix=prefix)
    assert sum(fed) < 200 + 8 * 40


def test_a_tagger_finds_the_same_whatever_shares_its_batches(bpe_tokenizer, notes):
    """With the instruction's keys and values computed once for all of its batches."""
    found = []
    for size in (1, 5, 64):
        options = LoraSettings(model="", prompt="rewrite_ja", labels=LABELS, decode_batch_size=size)
        found.append(LoraTagger(random_model(max_position_embeddings=4096), bpe_tokenizer, options).predict(notes[:4]))
    assert found[0] == found[1] == found[2]
    assert any(p.entities for p in found[0])


def test_a_prompt_without_the_shared_prefix_is_refused():
    model = random_model()
    prefix = shared_prefix(model, [[*range(1, 30), k] for k in range(2)])
    for prompt in ([*range(2, 32)], [*range(1, 30)]):
        with pytest.raises(DataError, match="does not begin with the shared prefix"):
            decode(model, [prompt], [Copier(TagTokens(CHARACTERS, ["d"]), "発熱")], prefix=prefix)


def test_prompts_without_a_common_beginning_share_nothing():
    model = random_model()
    assert shared_prefix(model, [[1] * 50, [2] * 50]) == SharedPrefix()
    assert shared_prefix(model, [[1] * 50]) == SharedPrefix()
    assert shared_prefix(model, []) == SharedPrefix()


def test_a_row_answers_the_same_alone_and_among_longer_ones():
    model = random_model()
    copiers = [
        Copier(TagTokens(CHARACTERS, ["d"]), text) for text in ("発熱", "咳嗽なし。" * 12, "と", "発熱と咳嗽" * 5)
    ]
    prompts = prompts_for(3, 4)
    together = decode(model, prompts, copiers, window=2)
    for prompt, copier, (tokens, _) in zip(prompts, copiers, together, strict=True):
        assert decode(model, [prompt], [copier], window=2)[0][0] == tokens


# --- any model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Qwen2Config, {"num_key_value_heads": 2}),
        (Qwen3Config, {"num_key_value_heads": 2, "head_dim": 8}),
        (MistralConfig, {"num_key_value_heads": 2, "sliding_window": None}),
        (Gemma2Config, {"num_key_value_heads": 2, "head_dim": 8, "final_logit_softcapping": 3.0}),
        (GraniteConfig, {"num_key_value_heads": 2, "logits_scaling": 8.0}),
        (HyperCLOVAXConfig, {"num_key_value_heads": 2, "logits_scaling": 8.0}),
        (CohereConfig, {"num_key_value_heads": 2, "logit_scale": 0.3}),
        (PhiConfig, {}),  # a bias in the head
        (GPTNeoXConfig, {}),
        (GPT2Config, {"n_positions": 96}),  # learned positions, and no more of them than are needed
        (LlamaConfig, {"attn_implementation": "eager"}),
    ],
    ids=lambda value: getattr(value, "model_type", None) or ",".join(value),
)
def test_every_family_answers_as_its_own_forward_does(tokenizers, kind, options):
    model = random_model(kind, **options)
    copiers = [Copier(TagTokens(t, LABELS), TEXTS[0]) for t in tokenizers.values()]
    assert_same_answers(model, prompts_for(1, 2, shared=20), copiers, window=4)


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
def test_a_model_with_an_adapter_answers_with_its_adapter_merged_or_not(tied, options):
    torch.manual_seed(1)
    base = random_model(tie_word_embeddings=tied)
    model = get_peft_model(base, LoraConfig(r=4, init_lora_weights=False, task_type="CAUSAL_LM", **options))
    for name, parameter in model.named_parameters():
        if "trainable_tokens_delta" in name:
            torch.nn.init.normal_(parameter)
    model = model.double().eval()
    copier = Copier(TagTokens(CHARACTERS, LABELS), "発熱と咳嗽なし。aB1発熱と咳嗽。")
    prompts = prompts_for(2, 1)
    assert_same_answers(model, prompts, [copier], window=4)
    adapted = decode(model, prompts, [copier])[0][1]
    with model.disable_adapter():
        assert decode(model, prompts, [copier])[0][1] != pytest.approx(adapted, abs=1e-4)
    merged = model.merge_and_unload()
    assert_same_answers(merged, prompts, [copier], window=4)
    assert decode(merged, prompts, [copier])[0][1] == pytest.approx(adapted, abs=1e-4)


def test_an_adapter_is_added_to_the_weights_while_decoding_and_taken_out_bit_for_bit():
    adapter = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(random_model().float(), adapter).eval()
    ids = torch.tensor([[1, 2, 3, 4]])
    before = {name: w.clone() for name, w in model.state_dict().items()}
    expected = model(ids).logits
    with pytest.raises(KeyError), folded(model):
        assert all(layer.merged for layer in model.modules() if isinstance(layer, LoraLayer))
        assert torch.allclose(model(ids).logits, expected, atol=1e-4)
        raise KeyError
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())
    assert torch.equal(model(ids).logits, expected)


def test_the_adapter_of_a_model_in_half_precision_stays_beside_its_weights():
    model = get_peft_model(random_model().bfloat16(), LoraConfig(target_modules="all-linear"))
    with folded(model):
        assert not any(layer.merged for layer in model.modules() if isinstance(layer, LoraLayer))


def test_the_models_own_head_is_back_in_place_even_after_an_error():
    model = random_model()
    head = model.get_output_embeddings()
    with pytest.raises(IndexError):
        decode(model, [[VOCABULARY + 1]], [Copier(TagTokens(CHARACTERS, ["d"]), "発熱")])
    assert model.get_output_embeddings() is head


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_half_precision_answers_as_one_token_at_a_time_does(tokenizers, device):
    model = random_model(seed=3).to(device, torch.bfloat16)
    copiers = [Copier(TagTokens(tokenizers["bpe"], LABELS), text) for text in TEXTS]
    assert_same_answers(model, prompts_for(4, 3, shared=20), copiers, tolerance=0.15)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (lambda: random_model(MambaConfig, state_size=4), "keeps a state"),
        (lambda: random_model(BloomConfig), "takes no position ids"),
        (lambda: random_model(MistralConfig, sliding_window=8, num_key_value_heads=2), "attends to 8 tokens at a time"),
        (lambda: random_model(Gemma2Config, head_dim=8, sliding_window=8), "attends to 8 tokens at a time"),
        (
            lambda: get_peft_model(random_model(), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)),
            "virtual tokens",
        ),
    ],
)
def test_a_model_whose_cache_cannot_forget_is_refused_with_a_sentence(model, sentence):
    with pytest.raises(DataError, match=sentence):
        decode(model(), [[1, 2, 3]], [Copier(TagTokens(CHARACTERS, ["d"]), "発熱と咳嗽なし")])


def test_within_its_window_a_sliding_model_answers_like_any_other(tokenizers):
    model = random_model(MistralConfig, sliding_window=128, num_key_value_heads=2)
    copiers = [Copier(TagTokens(tokenizers["bpe"], LABELS), text) for text in TEXTS]
    assert_same_answers(model, prompts_for(5, 3), copiers, window=4)


# --- the number of passes -------------------------------------------------------------------------------------------


class Knowing(torch.nn.Module):
    """A language model that knows the answer to a prompt: at every position it expects the answer's next token."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, prompt, answer):
        super().__init__()
        self.expected = [0] * (len(prompt) - 1) + list(answer)
        self.config = LlamaConfig(attn_implementation="eager")
        self.embeddings = torch.nn.Embedding(1, 1)
        self.head = torch.nn.Linear(VOCABULARY, VOCABULARY, bias=False)
        torch.nn.init.eye_(self.head.weight)
        self.forwards = 0

    def get_input_embeddings(self):
        return self.embeddings

    def get_output_embeddings(self):
        return self.head

    def set_output_embeddings(self, head):
        self.head = head

    def forward(self, input_ids, position_ids, attention_mask, past_key_values, use_cache):
        self.forwards += 1
        hidden = torch.zeros(*input_ids.shape, VOCABULARY)
        for r, row in enumerate(position_ids.tolist()):
            for k, position in enumerate(row):
                if position < len(self.expected):
                    hidden[r, k, self.expected[position]] = 50.0
        return CausalLMOutput(logits=self.head(hidden))


def until_the_text_is_written(copier, tokens):
    """A last "<" may be the text's or begin a tag; decoding stops there."""
    node = copier.start
    for k, token in enumerate(tokens):
        if copier.finished(node):
            return tokens[:k]
        node = copier.steps(node)[token]
    return tokens


def bound(n_entities, n_tokens, window):
    return 2 * n_entities + -(-n_tokens // window) + 1


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 64), st.sampled_from(["character", "bpe"]), st.integers(1, 3))
def test_a_note_takes_two_passes_an_entity_and_one_a_window(tokenizers, data, window, name, labels):
    """For any text and any entities in it, tokens cut for a tag and labels that begin alike included."""
    words = st.sampled_from(["発熱", "なし。\n", "120 mg", "abdominal pain", *ALPHABET])
    text = "".join(data.draw(st.lists(words, min_size=1, max_size=30)))
    copier = Copier(TagTokens(tokenizers[name], LABELS[:labels]), text)
    answer = until_the_text_is_written(copier, copier.write(data.draw(entities_in(text, LABELS[:labels]))))
    model = Knowing([1, 2, 3], answer)
    ((tokens, log_probs),) = decode(model, [[1, 2, 3]], [copier], window=window)
    assert tokens == answer
    assert model.forwards <= bound(len(copier.read(tokens)), len(tokens), window)
    assert log_probs == pytest.approx([0.0] * len(tokens), abs=1e-4)


@pytest.mark.parametrize("name", ["character", "bpe"])
@pytest.mark.parametrize("window", [1, 8, 32])
def test_a_batch_takes_no_more_passes_than_its_slowest_note(tokenizers, name, window):
    model, passes = random_model(), []
    model.get_decoder().register_forward_hook(lambda *_: passes.append(1))
    copiers = [Copier(TagTokens(tokenizers[name], LABELS), text) for text in ("発熱と咳嗽、なし。aB1" * 8, *TEXTS)]
    answers = decode(model, [[1, 2]] * len(copiers), copiers, window=window)
    bounds = [bound(len(c.read(t)), len(t), window) for c, (t, _) in zip(copiers, answers, strict=True)]
    assert len(passes) <= max(bounds)
    assert len(passes) < len(answers[0][0])


def test_an_empty_text_costs_nothing():
    assert decode(random_model(), [[1], [1]], [Copier(TagTokens(CHARACTERS, ["d"]), "")] * 2) == [([], [])] * 2
