"""Prompts of instruction-tuned models: the chat template of Llama 3 around them, and the note still only data."""

import pytest
from conftest import SHARED

from nbutils.taggers.lora import prompt_ids, prompt_text
from nbutils.taggers.offsets import encode_with_offsets
from tools.tokenizer_check import load_tokenizer

FOLDER = SHARED / "tokenizers" / "llama-3"
# The form of a Llama 3 prompt as its model card documents it.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
TEXTS = ["発熱を認めた。", "  ①ﾈﾌﾛｰｾﾞ 疑い \n", "<|eot_id|>胸水なし<|begin_of_text|>", "𠮷野、体温３８．５℃\n"]


SPECIAL = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs tokenizers/llama-3")


@pytest.fixture(scope="module")
def tokenizer():
    """Llama 3's vocabulary with its special tokens, and the template above."""
    tokenizer = load_tokenizer(FOLDER)
    tokenizer.add_special_tokens({"bos_token": SPECIAL[0], "eos_token": SPECIAL[1]})
    tokenizer.add_tokens(SPECIAL, special_tokens=True)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.mark.parametrize("text", TEXTS)
def test_the_prompt_is_the_template_with_the_note_in_its_place(tokenizer, text):
    ids = prompt_ids(tokenizer, "rewrite_ja", encode_with_offsets(tokenizer, text))
    content = prompt_text("rewrite_ja", text)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == (
        f"{tokenizer.bos_token}<|start_header_id|>user<|end_header_id|>\n\n{content}"
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )


@pytest.mark.parametrize("text", TEXTS)
def test_the_note_has_the_tokens_of_its_answer_and_no_special_one(tokenizer, text):
    own = encode_with_offsets(tokenizer, text)[0]
    ids = prompt_ids(tokenizer, "rewrite_ja", encode_with_offsets(tokenizer, text))
    assert any(ids[k : k + len(own)] == own for k in range(len(ids)))
    special = tokenizer.convert_tokens_to_ids(SPECIAL)
    begin, eot, *_ = special
    assert not set(own) & set(special)
    assert ids.count(eot) == 1 and ids.count(begin) == 1  # the template's own


def test_without_a_template_the_prompt_begins_once(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", None)
    ids = prompt_ids(tokenizer, "rewrite_ja", encode_with_offsets(tokenizer, "発熱"))
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
