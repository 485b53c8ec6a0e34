"""What is loaded: safetensors that are as they were saved, never code; anything else is refused in one sentence."""

import ast
import json
import shutil

import pytest
import torch

from nbutils import ROOT, taggers
from nbutils.files import DataError
from nbutils.taggers import bert, checksums, crf, lora, models
from nbutils.taggers.settings import BertSettings, CrfSettings, LoraSettings

EVIL = "open({mark!r}, 'w').write('ran')\n"


def calls_of_from_pretrained():
    for folder in ("nbutils", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "from_pretrained":
                    yield path.relative_to(ROOT), node


def test_every_loading_says_that_code_of_a_model_is_not_to_be_run():
    """Left out, transformers asks a person at the terminal, and `yes` runs the code."""
    calls = list(calls_of_from_pretrained())
    assert len(calls) >= 4
    for path, call in calls:
        if call.func.value.id == "PeftModel":  # reads an adapter's settings and weights; it has no such switch
            continue
        chosen = {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert chosen.get("trust_remote_code") == "False", f"{path}, line {call.lineno}"


@pytest.fixture(scope="module")
def saved(notes, micro_encoder, micro_llm, tmp_path_factory):
    """A folder for each kind of system that learns, as its tagger saved it."""
    folder = tmp_path_factory.mktemp("saved")
    options = {"epochs": 1, "learning_rate": 1e-3}
    encoder = BertSettings(model=str(micro_encoder), **options)
    llm = LoraSettings(model=str(micro_llm), prompt="tiny_ja", max_length=100, **options)
    bert.fit(notes[:3], encoder, seed=0, progress=False).save(folder / "bert")
    lora.fit(notes[:3], llm, seed=0, progress=False).save(folder / "lora")
    crf.fit(notes[:3], CrfSettings(iterations=2), progress=False).save(folder / "crf")
    return folder


@pytest.fixture
def model_of(saved, tmp_path):
    def copied(kind):
        shutil.rmtree(tmp_path / kind, ignore_errors=True)
        return shutil.copytree(saved / kind, tmp_path / kind)

    return copied


WEIGHTS = {"crf": "model.crfsuite", "bert": "model.safetensors", "lora": "adapter_model.safetensors"}


def refused(kind, folder):
    with pytest.raises(DataError) as caught:
        taggers.load(kind, folder)
    sentence = str(caught.value)
    assert "\n" not in sentence and str(folder) in sentence
    return sentence


@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_model_as_it_was_saved_tags_again(kind, model_of, notes):
    assert len(taggers.load(kind, model_of(kind)).predict(notes[:2])) == 2


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("damage", ["cut", "empty", "one byte", "gone", "noise"])
def test_damaged_weights_are_noticed_before_anything_reads_them(kind, damage, model_of):
    """CRFsuite's reader ends the process on such a file."""
    path = model_of(kind) / WEIGHTS[kind]
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        middle = len(data) // 2
        one_byte = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        path.write_bytes({"cut": data[:middle], "empty": b"", "one byte": one_byte, "noise": b"\xff" * 999}[damage])
    assert WEIGHTS[kind] in refused(kind, path.parent)


def test_a_crf_without_its_checksum_is_not_opened(model_of):
    folder = model_of("crf")
    (folder / checksums.NAME).unlink()
    assert "checksums.json is missing" in refused("crf", folder)


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '"x"', "null", "7", '{"labels": "d"}', '{"zzz": 1}', "[" * 9999, "{}x"]
)
@pytest.mark.parametrize("kind", WEIGHTS)
def test_settings_of_another_form_are_one_sentence(kind, text, model_of):
    folder = model_of(kind)
    (folder / "settings.json").write_text(text, encoding="utf-8")
    assert "settings.json" in refused(kind, folder)


@pytest.mark.parametrize("text", ["", "[1]", "{", "null", '{"model_type": "no such"}', '{"model_type": 3}', "{}"])
@pytest.mark.parametrize(("kind", "name"), [("bert", "config.json"), ("lora", "adapter_config.json")])
def test_a_configuration_of_another_form_is_one_sentence(kind, name, text, model_of):
    folder = model_of(kind)
    (folder / name).write_text(text, encoding="utf-8")
    refused(kind, folder)


@pytest.mark.parametrize("name", ["adapter_model.bin", "pytorch_model.bin", "model.pt", "model.ckpt", "weights.pkl"])
@pytest.mark.parametrize("kind", ["bert", "lora"])
def test_a_pickle_never_stands_in_for_safetensors(kind, name, model_of):
    folder = model_of(kind)
    weights = folder / WEIGHTS[kind]
    torch.save({"a": torch.zeros(1)}, folder / name)
    weights.unlink()
    (folder / checksums.NAME).unlink()  # as in a folder from elsewhere
    assert f"{name} could run code and is not opened" in refused(kind, folder)


def test_code_that_a_model_brings_along_does_not_run_whatever_a_person_would_answer(model_of, tmp_path, monkeypatch):
    folder, mark = model_of("bert"), tmp_path / "ran"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    code = {"AutoConfig": "evil.Config", "AutoModelForTokenClassification": "evil.Model"}
    (folder / "evil.py").write_text(EVIL.format(mark=str(mark)) + "class Config: pass\nclass Model: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setattr("transformers.dynamic_module_utils.signal.alarm", lambda *_: 0)
    for model_type in (config["model_type"], "something-of-its-own"):
        (folder / "config.json").write_text(json.dumps(config | {"auto_map": code, "model_type": model_type}))
        for load in (models.load_config, models.load_tokenizer, lambda f: taggers.load("bert", f)):
            try:
                load(folder)
            except DataError as error:
                assert "\n" not in str(error)
    assert not mark.exists()


def test_an_unknown_kind_is_one_sentence(tmp_path):
    for kind in ("no such", ["crf"], None, {}):
        assert "known are crf" in refused(kind, tmp_path)
    assert "no model" in refused("crf", tmp_path)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_list_of_checksums_is_the_last_thing_written_and_notices_every_change(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"1")
    (tmp_path / "b.json").write_text("{}")
    assert "missing" in checksums.problem(tmp_path)
    checksums.write(tmp_path)
    assert checksums.problem(tmp_path) is None
    (tmp_path / "a.bin").write_bytes(b"2")
    assert checksums.problem(tmp_path) == "a.bin is cut or was changed"
    (tmp_path / "a.bin").unlink()
    assert checksums.problem(tmp_path) == "a.bin is missing"
    for text in ("", "[]", "{", "null", "{}", '{"a.bin": 3}', '{"../x": "y"}'):
        (tmp_path / checksums.NAME).write_text(text)
        assert checksums.problem(tmp_path)


def test_bf16_products_are_for_the_training_on_a_cpu_and_end_with_it():
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    with pytest.raises(KeyError), models.bf16_products(True):
        assert matmul.fp32_precision == ("bf16" if models.device().type == "cpu" else before)
        raise KeyError
    assert matmul.fp32_precision == before
    with models.bf16_products(False):
        assert matmul.fp32_precision == before
