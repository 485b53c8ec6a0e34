"""A causal language model labels tokens: one pass, characters in and characters out, with attention of either kind."""

import pytest
import torch
from transformers import AutoModelForTokenClassification, LlamaConfig, LlamaForCausalLM, MistralConfig, Qwen3Config

from nbutils import taggers
from nbutils.corpus import Document, Entity
from nbutils.files import DataError
from nbutils.taggers import bert, lora, token_head
from nbutils.taggers.models import HEADS
from nbutils.taggers.offsets import encode_with_offsets
from nbutils.taggers.settings import LoraSettings
from nbutils.taggers.token_head import attend_both_ways
from nbutils.taggers.usage import Tokens

SMALL = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "num_labels": 3,
}  # fmt: skip


def settings_of(folder, **options):
    chosen = {"learning_rate": 1e-2, "epochs": 12, "batch_size": 4, "accumulation": 1, "dropout": 0.0} | options
    return LoraSettings(model=str(folder), head="classify", **chosen)


def entities(tagger, notes):
    return [[e.key for e in p.entities] for p in tagger.predict(notes)]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("config", [LlamaConfig, Qwen3Config, MistralConfig])
def test_the_first_token_knows_the_last_one_only_when_attention_goes_both_ways(config, padded, attention):
    """Padding is unknown either way."""
    torch.manual_seed(0)
    model = AutoModelForTokenClassification.from_config(config(**SMALL), attn_implementation=attention).eval()

    def first(last, padding=0):
        ids = torch.tensor([[5, 6, 7, last] + [padding] * padded, [5, 6, 7, 8, 9][: 4 + padded]])
        mask = torch.ones_like(ids)
        mask[0, 4:] = 0
        with torch.inference_mode():
            return model(input_ids=ids, attention_mask=mask).logits[0, 0]

    assert torch.equal(first(1), first(2))
    attend_both_ways(model)
    assert not torch.allclose(first(1), first(2))
    torch.testing.assert_close(first(1, padding=3), first(1, padding=4))


def test_a_model_that_cannot_look_ahead_is_refused():
    model = AutoModelForTokenClassification.from_config(LlamaConfig(**SMALL))
    for layer in model.model.layers:  # as a kernel does that knows no mask
        forward = layer.self_attn.forward
        layer.self_attn.forward = lambda *a, _forward=forward, **k: (torch.zeros_like(k["hidden_states"]), None)
    with pytest.raises(DataError, match=r"LlamaForTokenClassification cannot attend .* leave out attention"):
        attend_both_ways(model)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_it_learns_its_notes_and_is_the_same_after_saving(attention, micro_llm, notes, tmp_path):
    tagger = lora.fit(notes, settings_of(micro_llm, attention=attention), seed=0, progress=False)
    gold, ours = ([set(keys) for keys in all_keys] for all_keys in ([[e.key for e in n.entities] for n in notes],
                                                                    entities(tagger, notes)))  # fmt: skip
    right = sum(len(a & b) for a, b in zip(gold, ours, strict=True))
    assert right > 0.5 * sum(map(len, gold)) and right > 0.5 * sum(map(len, ours))
    tagger.save(tmp_path)
    again = taggers.load("lora", tmp_path)
    assert entities(again, notes) == entities(tagger, notes)
    other = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[5, 6, 7, 9]])
    with torch.inference_mode():
        one, two = (again.model(input_ids=ids).logits[0, 0] for ids in other)
    assert torch.equal(one, two) == (attention == "causal")


def test_a_model_in_half_precision_is_trained_in_single_and_is_the_same_after_saving(
    micro_llm, notes, tmp_path, monkeypatch
):
    """As on a GPU: the weights in bf16, the training under autocast, the tagging not."""
    load = token_head.load_causal
    half = lambda model, tokenizer: (model.to(torch.bfloat16), tokenizer)  # noqa: E731
    monkeypatch.setattr(token_head, "load_causal", lambda *a: half(*load(*a)))
    with torch.autocast("cpu", torch.bfloat16):
        tagger = lora.fit(notes, settings_of(micro_llm, attention="bidirectional"), seed=0, progress=False)
    found = entities(tagger, notes)
    assert sum(map(len, found)) > 0.5 * sum(len(n.entities) for n in notes)
    tagger.save(tmp_path)
    assert entities(taggers.load("lora", tmp_path), notes) == found


def test_only_the_adapter_and_the_head_are_trained_and_the_head_has_no_adapter(micro_llm, notes):
    tagger = lora.fit(notes[:2], settings_of(micro_llm, epochs=1), seed=0, progress=False)
    trained = [name for name, p in tagger.model.named_parameters() if p.requires_grad]
    assert all("lora_" in name or "modules_to_save" in name for name in trained)
    assert sum("lora_" in name for name in trained) == 2 * 7 * 2  # A and B of 7 matrices in each of 2 layers
    heads = [name for name in trained if any(f".{head}." in name for head in HEADS)]
    assert len(heads) == 2 and not any("lora_" in name for name in heads)  # weight and bias


def test_one_pass_reads_each_token_once_and_writes_nothing(micro_llm, notes):
    tagger = lora.fit(notes[:2], settings_of(micro_llm, epochs=1), seed=0, progress=False)
    tagger.predict(notes)
    units = bert.make_windows([n.without_entities() for n in notes], tagger.tokenizer, tagger.settings)
    special = 2  # [CLS] and [SEP] of this tokenizer
    assert tagger.used == Tokens(sum(len(w.ids) + special for unit in units for w in unit), 0)


def test_characters_of_several_byte_level_pieces_are_inside_or_outside_as_a_whole(bpe_tokenizer, tmp_path):
    """Diseases in characters that the vocabulary does not have: each is three or four tokens."""
    notes = []
    for k, name in enumerate(["齲蝕", "𩸽瘡", "痤瘡", "齲蝕"]):
        text = f"{name}を認めた。"
        notes.append(Document(f"n{k}", text, (Entity(0, 2),)))
        assert len(encode_with_offsets(bpe_tokenizer, name)[0]) > len(name)
    config = LlamaConfig(**SMALL | {"vocab_size": len(bpe_tokenizer)})
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    bpe_tokenizer.save_pretrained(tmp_path)
    settings = settings_of(tmp_path, epochs=30, attention="bidirectional")
    (row, *_) = bert.examples(notes, bpe_tokenizer, settings)
    n_pieces = len(encode_with_offsets(bpe_tokenizer, "齲蝕")[0])
    assert row["labels"][: n_pieces + 1] == [1] + [2] * (n_pieces - 1) + [0]
    tagger = lora.fit(notes, settings, seed=0, progress=False)
    assert entities(tagger, notes) == [[e.key for e in n.entities] for n in notes]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"attention": "bidirectional"}, "attention: .* add head: classify"),
        ({"head": "classify", "train_tags": True}, "train_tags: "),
        ({"head": "classify", "epochs": 0}, "epochs: "),
    ],
)
def test_settings_that_do_not_go_together_are_one_sentence(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        LoraSettings(model="x", **values)
