"""What the tests of copy decoding share: an alphabet full of traps, tokenizers, entities, and an independent judge."""

import itertools

import torch
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from nbutils.corpus import Entity
from nbutils.taggers.tiny import character_tokenizer

LABELS = ("d", "a", "timex3")
ALPHABET = "発熱と咳嗽。、なし\n aB1ｶﾞ゙㎎①栄𠮷<d>/"
CHARACTERS = character_tokenizer([ALPHABET, "ガmg"], LABELS)
VOCABULARY = 700


@st.composite
def entities_in(draw, text, labels=LABELS):
    """Entities that neither overlap nor run across a line break."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    spans = [(s, e) for s, e in itertools.pairwise(cuts) if s < e and not set("\r\n") & set(text[s:e])]
    return [Entity(s, e, draw(st.sampled_from(labels))) for s, e in spans if draw(st.booleans())]


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


def random_model(kind=LlamaConfig, seed=0, vocabulary=VOCABULARY, **options):
    """Two layers of noise with strong opinions, in double precision so that nothing but a real tie is close."""
    options = {"max_position_embeddings": 512} | options
    config = kind(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.3, pad_token_id=0, bos_token_id=0, eos_token_id=0, **options,
    )  # fmt: skip
    torch.manual_seed(seed)
    return MODEL_FOR_CAUSAL_LM_MAPPING[kind](config).double().eval()


@torch.inference_mode()
def one_token_at_a_time(model, prompt, allowed_after):
    """The judge: for each token the whole sequence through the model's own forward, no cache, no draft, no batch.

    The logits of the whole vocabulary, with minus infinity for all but the allowed tokens. `allowed_after(tokens)`
    names these, none at the end.
    """
    tokens, log_probs = [], []
    while allowed := allowed_after(tokens):
        logits = model(input_ids=torch.tensor([[*prompt, *tokens]], device=model.device), use_cache=False).logits[0, -1]
        mask = torch.full_like(logits, float("-inf"))
        mask[list(allowed)] = 0
        log_prob, best = (logits + mask).float().log_softmax(-1).max(-1)
        tokens.append(int(best))
        log_probs.append(float(log_prob))
    return tokens, log_probs


def allowed_by_steps(copier):
    """The automaton's own steps, walked from the start each time."""

    def allowed_after(tokens):
        node = copier.start
        for token in tokens:
            node = copier.steps(node)[token]
        return set(copier.steps(node))

    return allowed_after


def allowed_by_listing(copier, labels):
    """No automaton: all that can be written is listed, and a token is allowed if something listed goes on with it."""
    written = {tuple(copier.write(entities)) for entities in every_set_of_entities(copier.text, labels)}

    def allowed_after(tokens):
        n = len(tokens)
        return (
            {w[n] for w in written if len(w) > n and w[:n] == tuple(tokens)} if tuple(tokens) not in written else set()
        )

    return allowed_after
