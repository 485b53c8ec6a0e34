"""Small notes, tokenizers and micro models that several test files share; built on the spot in seconds."""

import os
from functools import cache
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from nbutils import ROOT
from nbutils.corpus import Corpus, Document, Entity
from nbutils.corpus.formats import read_corpus

torch.set_num_threads(1)  # of micro models several threads only wait for each other

SHARED = Path(ROOT).parent / "shared" / "data"
JMED = Path(os.environ.get("JMED_LLM_DIR", SHARED / "jmed-llm"))
needs_jmed = pytest.mark.skipif(not JMED.is_dir(), reason="needs jmed-llm (JMED_LLM_DIR)")
CORPORA = ["cr", "pn", pytest.param("CRNER", marks=needs_jmed), pytest.param("NRNER", marks=needs_jmed)]
# For tests over all of a corpus: counting lines doubles their time, and smaller tests run the same lines.
uncounted = pytest.mark.no_cover

DISEASES = ("発熱", "咳嗽", "肺炎", "胸水", "ﾈﾌﾛｰｾﾞ", "胃癌")
FRAMES = ("{}を主訴に来院した。", "ＣＴで{}を認めた。", "{}なし、{}あり。", "①{}の増悪\n②{}は消失した。")


def note(number: int) -> Document:
    """A note of two or three lines with its diseases marked."""
    text, entities, k = "", [], number
    for frame in (FRAMES[number % len(FRAMES)], "", FRAMES[(number + 1) % len(FRAMES)]):
        before, *rest = frame.split("{}")
        text += before
        for part in rest:
            disease = DISEASES[k % len(DISEASES)]
            entities.append(Entity(len(text), len(text) + len(disease)))
            text += disease + part
            k += 1
        text += "\n"
    return Document(f"note-{number}", text, tuple(entities))


@cache
def whole_corpus(name: str) -> Corpus:
    """One of `CORPORA`, read once."""
    if name in ("cr", "pn"):
        return read_corpus(ROOT / "data" / name, "medtxt")
    return read_corpus(JMED / f"{name}.csv", "jmed")


@pytest.fixture(scope="session")
def notes() -> tuple[Document, ...]:
    return tuple(note(k) for k in range(12))


@pytest.fixture(scope="session")
def bpe_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE as in Llama 3, trained here: words, "。\\n" and "<d" are one token, a rare kanji is several."""
    tokenizer = Tokenizer(models.BPE())
    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lines = [note(k).text for k in range(24)] + ["<d>発熱</d>なし。\n", "abdominal pain 120 mg\n\n"] * 4
    tokenizer.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>")


@pytest.fixture(scope="session")
def micro_encoder(notes, tmp_path_factory) -> Path:
    """An encoder folder, 2 layers × 32."""
    from nbutils.taggers.settings import TinyEncoderSettings
    from nbutils.taggers.tiny import build_encoder

    folder = tmp_path_factory.mktemp("models") / "encoder"
    build_encoder(notes, folder, TinyEncoderSettings(hidden=32, layers=2, epochs=2), progress=False)
    return folder


@pytest.fixture(scope="session")
def micro_llm(notes, tmp_path_factory) -> Path:
    """A Llama folder, 2 layers × 32."""
    from nbutils.taggers.settings import TinyLlmSettings
    from nbutils.taggers.tiny import build_llm

    folder = tmp_path_factory.mktemp("models") / "llm"
    build_llm(notes, folder, TinyLlmSettings(hidden=32, layers=2, samples=256), progress=False)
    return folder
