"""What a model of the hub needs is asked before training starts, and answered in one sentence; nothing is half done."""

import json

import pytest
from huggingface_hub.errors import HTTPError

from nbutils import ROOT
from nbutils.files import DataError
from nbutils.study.__main__ import main
from nbutils.study.file import load_study
from nbutils.study.systems import check_models, models_of
from nbutils.taggers import KINDS, hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Info:
    """What the hub answers."""

    sha = COMMIT
    card_data = None

    def __init__(self, *names, licence=None):
        self.siblings = [type("File", (), {"rfilename": n, "size": 2_000_000_000})() for n in names]
        if licence:
            self.card_data = {"license": licence}


@pytest.fixture
def no_hub(monkeypatch):
    def fail(*_, **__):
        raise HTTPError("Name or service not known")

    monkeypatch.setattr(hub.HfApi, "model_info", fail)


@pytest.fixture
def answer(monkeypatch):
    def say(info):
        monkeypatch.setattr(hub.HfApi, "model_info", lambda *_, **__: info)

    return say


def test_without_the_hub_a_study_of_real_models_is_refused_before_it_starts(no_hub, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MEDTXT_CR", str(ROOT / "data" / "cr"))
    runs = sorted((ROOT / "runs").glob("paper/**/*"))
    assert main(["check", str(ROOT / "studies" / "paper.yaml")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Traceback" not in said
    assert 'study "paper": the model tohoku-nlp/bert-base-japanese-v3 is not on this machine' in said
    assert "make study STUDY=demo" in said
    assert main(["execute", str(ROOT / "studies" / "paper.yaml"), "bert", "CR", "0"]) == 1
    assert sorted((ROOT / "runs").glob("paper/**/*")) == runs


def test_the_papers_corpus_is_asked_for_by_its_variable(monkeypatch, capsys):
    monkeypatch.delenv("MEDTXT_CR", raising=False)
    assert main(["check", str(ROOT / "studies" / "paper.yaml")]) == 1
    assert "$MEDTXT_CR is not set" in capsys.readouterr().err


def test_weights_that_are_pickled_are_refused_with_the_way_to_convert_them(answer):
    answer(Info("config.json", "pytorch_model.bin"))
    with pytest.raises(DataError, match="has no safetensors weights on the hub; `make models STUDY=x` makes them"):
        hub.check("owner/name", COMMIT, "x")


def test_a_model_that_is_not_pinned_is_named_with_its_commit(answer):
    answer(Info("config.json", "model.safetensors"))
    notes = hub.check("owner/name", None, "x")
    assert any(f'revision: "{COMMIT}"' in note for note in notes)
    assert any("2.0 GB" in note for note in notes)
    assert not any("revision" in note for note in hub.check("owner/name", COMMIT, "x"))
    assert not hub.is_pinned("main")


def test_a_licence_that_forbids_sale_is_said_on_use(answer):
    answer(Info("model.safetensors", licence="cc-by-nc-sa-4.0"))
    assert any("not for commercial use" in note for note in hub.check("owner/name", COMMIT, "x"))
    for known in hub.MEDICAL_ENCODERS:
        assert any("commercial" in note for note in hub.warnings(known.model, COMMIT)) == (not known.sells)


def test_a_tiny_model_has_nothing_to_say():
    assert hub.warnings("models/demo/CR/encoder", None) == []


def test_the_medical_encoders_of_the_documentation_are_those_of_the_code():
    text = (ROOT / "docs" / "real_models.md").read_text(encoding="utf-8")
    for known in hub.MEDICAL_ENCODERS:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{known.model}`")]
        assert known.licence in row


@pytest.mark.parametrize("name", ["paper", "laptop", "small", "small_lm", "small_icl"])
def test_the_models_of_our_studies_are_pinned_where_a_commit_is_known(name):
    pinned = dict(models_of(load_study(ROOT / "studies" / f"{name}.yaml")))
    loose = {model for model, revision in pinned.items() if not hub.is_pinned(revision)}
    assert loose <= {"tokyotech-llm/Llama-3.1-Swallow-8B-Instruct-v0.2"}  # no source names its commit


def test_the_papers_study_is_sound_and_the_hub_is_asked_for_the_models_that_run_here_only(monkeypatch, capsys):
    monkeypatch.setenv("MEDTXT_CR", str(ROOT / "data" / "cr"))
    asked = []
    monkeypatch.setattr(hub, "check", lambda model, *_: asked.append(model) or [])
    assert main(["check", str(ROOT / "studies" / "paper.yaml")]) == 0
    assert "28 runs" in capsys.readouterr().out  # four systems of three seeds, two of one; two training corpora
    assert asked == ["tohoku-nlp/bert-base-japanese-v3", "tokyotech-llm/Llama-3.1-Swallow-8B-Instruct-v0.2"]


def test_the_papers_study_has_the_rows_of_table_3_in_its_order():
    systems = load_study(ROOT / "studies" / "paper.yaml").systems
    assert list(systems) == ["bert", "lora", "swallow-zero", "swallow-few", "gpt-4o-zero", "gpt-4o-few"]
    for name, s in systems.items():
        assert s.settings.get("shots", 0) == name.endswith("few")
        assert len(s.seeds) == (1 if name.startswith("gpt") else 3)  # GPT-4o ran once, at temperature zero
    assert {s.settings["budget"] for s in systems.values() if s.settings.get("endpoint")} == {20.0}  # of both together


def test_the_papers_study_has_table_2():
    systems = load_study(ROOT / "studies" / "paper.yaml").systems
    bert, lora = (KINDS[k].settings(**systems[k].settings) for k in ("bert", "lora"))
    assert (bert.learning_rate, bert.max_length, bert.epochs, bert.batch_size) == (2e-5, 512, 10, 8)
    assert (bert.weight_decay, bert.warmup, bert.accumulation) == (0, 0, 1)
    assert (lora.learning_rate, lora.dropout, lora.rank, lora.alpha, lora.max_grad_norm) == (2e-4, 0.05, 16, 64, 0.3)
    assert (lora.max_length, lora.accumulation, lora.epochs, lora.batch_size, lora.warmup) == (3000, 4, 2, 4, 0.05)


def test_four_bits_without_the_package_is_refused_before_training(tmp_path, monkeypatch):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "corpora: {A: {path: data/cr}}\nsystems: {lora: {model: owner/name, load_in_4bit: true}}\n", encoding="utf-8"
    )
    monkeypatch.setattr("nbutils.study.systems.find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"\[quant\]"):
        check_models(load_study(path))


def test_a_model_whose_download_was_cut_off_is_not_taken_for_whole(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    monkeypatch.setattr(hub, "ROOT", tmp_path)
    with pytest.raises(DataError, match="without its weights"):
        hub.check("mine", None, "x")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="model-00001-of-00002"):
        hub.check("mine", None, "x")


@pytest.mark.hub
def test_the_pinned_models_are_on_the_hub():
    for name in ("paper", "laptop", "small", "small_lm", "small_icl"):
        for model, revision in models_of(load_study(ROOT / "studies" / f"{name}.yaml")):
            assert hub.ask_hub(model, revision, model).siblings
