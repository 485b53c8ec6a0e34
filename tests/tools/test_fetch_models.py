"""The models of a study become safetensors in `models/hub`; a pickle is never run, and nothing is left half done."""

import json
import pickle
import shutil

import pytest
import torch
from huggingface_hub.errors import HTTPError
from transformers import BertConfig, BertModel

from nbutils.files import DataError
from nbutils.taggers import hub
from tools import fetch_models

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def pickled(tmp_path):
    torch.manual_seed(0)
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertModel(BertConfig(vocab_size=20, **size))
    folder = tmp_path / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder, model


def test_pickled_weights_become_the_same_weights_in_safetensors(pickled, tmp_path):
    folder, model = pickled
    target = tmp_path / "owner" / "name"
    fetch_models.to_safetensors(folder, target, source={"model": "owner/name", "commit": COMMIT})
    again = BertModel.from_pretrained(target, use_safetensors=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert json.loads((target / "source.json").read_text())["commit"] == COMMIT
    assert not list(target.glob("*.bin"))


def test_a_pickle_with_code_in_it_is_not_run_and_leaves_nothing(pickled, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (shutil.rmtree, (str(tmp_path),))

    folder, _ = pickled
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"x": Bomb()}, file)
    with pytest.raises(DataError, match="not a plain file of tensors"):
        fetch_models.to_safetensors(folder, tmp_path / "owner" / "name")
    assert tmp_path.exists() and not (tmp_path / "owner").exists()


def test_a_converted_model_goes_before_the_hub_and_keeps_its_commit(pickled, tmp_path, monkeypatch):
    folder, _ = pickled
    monkeypatch.setattr(hub, "ROOT", tmp_path)
    fetch_models.to_safetensors(
        folder, tmp_path / "models" / "hub" / "owner" / "name", {"model": "x", "commit": COMMIT}
    )
    assert hub.check("owner/name", COMMIT, "x") == []
    assert hub.commit("owner/name", COMMIT) == COMMIT


def test_a_model_that_cannot_be_had_is_said_in_one_sentence(tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise HTTPError("Name or service not known")

    monkeypatch.setattr(hub.HfApi, "model_info", fail)
    path = tmp_path / "mine.yaml"
    path.write_text("corpora: {A: {path: data/cr}}\nsystems: {bert: {model: owner/name}}\n", encoding="utf-8")
    assert fetch_models.main([str(path)]) == 1
    assert "the model owner/name is not on this machine and the hub cannot be reached" in capsys.readouterr().err
