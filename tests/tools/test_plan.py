"""What a study will cost is estimated without training it, and agrees with what is measured on models that fit here."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig, LlamaConfig

from nbutils import ROOT
from nbutils.corpus import Corpus
from nbutils.files import DataError
from nbutils.study import systems
from nbutils.study.corpora import open_corpus, split
from nbutils.study.file import load_study
from nbutils.study.systems import models_of
from nbutils.taggers import bert, lora, training
from nbutils.taggers.settings import BertSettings, LoraSettings
from tools import plan
from tools.plan import meter

SWALLOW = "tokyotech-llm/Llama-3.1-Swallow-8B-Instruct-v0.2"
MIDDLING = {
    "vocab_size": 4000, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6,
    "num_attention_heads": 8, "num_key_value_heads": 4, "tie_word_embeddings": False,
}  # fmt: skip


def count(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.fixture(scope="module")
def swallow():
    return plan.config_of(SWALLOW, None)


def test_the_papers_adapter_has_41_9_million_parameters_on_an_8b_llama(swallow):
    model = meter.meta_model(swallow, LoraSettings(model=SWALLOW, bf16=True))
    assert count(model) == 41_943_040
    assert sum(p.numel() for p in model.parameters()) - count(model) == 8_030_261_248  # Llama 3.1 8B


def test_every_architecture_file_names_its_source_and_builds():
    for path in sorted(plan.CONFIGS.glob("*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        assert file["source"] and file["models"] and 0.3 < file["tokens_per_character"] < 1.5
        assert AutoConfig.for_model(**file["config"]).num_hidden_layers >= 10


def test_the_studies_of_real_models_use_architectures_that_are_known():
    for name in ("paper", "laptop", "today"):
        for model, _ in models_of(load_study(ROOT / "studies" / f"{name}.yaml")):
            assert plan.architecture(model)["config"]


@pytest.mark.parametrize("train_tags", [False, True])
def test_the_trainable_parameters_of_an_adapter_are_those_that_are_trained(micro_llm, notes, train_tags):
    settings = LoraSettings(model=str(micro_llm), prompt="tiny_ja", max_length=100, rank=4, train_tags=train_tags)
    tagger = lora.fit(notes[:1], settings.__class__(**{**vars(settings), "epochs": 0}), seed=0, progress=False)
    assert count(meter.meta_model(plan.config_of(str(micro_llm), None), settings)) == count(tagger.model)


def test_a_language_model_that_labels_tokens_costs_less_than_one_that_rewrites(micro_llm, notes):
    writing, labelling = (
        LoraSettings(model=str(micro_llm), prompt="tiny_ja", max_length=100, rank=4, epochs=0.1, head=head)
        for head in ("write", "classify")
    )
    config = plan.config_of(str(micro_llm), None)
    tagger = lora.fit(notes[:1], labelling, seed=0, progress=False)
    assert count(meter.meta_model(config, labelling)) == count(tagger.model)
    both = [plan.row_lengths(Corpus("A", notes), values) for values in (writing, labelling)]
    assert len(both[0]) == len(both[1]) and all(a > b for a, b in zip(*both, strict=True))
    costs = [meter.step_cost(config, v, 2, max(n)) for v, n in zip((writing, labelling), both, strict=True)]
    assert costs[0].flops > costs[1].flops > 0


def test_the_trainable_parameters_of_an_encoder_are_those_that_are_trained(micro_encoder, notes):
    settings = BertSettings(model=str(micro_encoder), epochs=0.1)
    tagger = bert.fit(notes[:1], settings, seed=0, progress=False)
    assert count(meter.meta_model(plan.config_of(str(micro_encoder), None), settings)) == count(tagger.model)


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "accumulation", "epochs"), [(13, 4, 2, 2), (8, 4, 2, 1), (3, 4, 4, 3)]
)
def test_the_optimiser_steps_are_those_that_the_trainer_makes(n_rows, batch_size, accumulation, epochs, tmp_path):
    values = BertSettings(model="x", batch_size=batch_size, accumulation=accumulation, epochs=epochs)
    trainer = training._Trainer(
        torch.nn.Linear(1, 1),
        training.TrainingArguments(
            str(tmp_path), per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation,
            num_train_epochs=epochs, use_cpu=True, report_to=[],
        ),
        train_dataset=[{"input_ids": [1]}] * n_rows,
    )  # fmt: skip
    made = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())
    assert plan.optimiser_steps(n_rows, values) in made


MEASURE = """
import json, re, sys, torch
from transformers import LlamaConfig, AutoModelForCausalLM
from peft import get_peft_model
from tools.plan import meter
from nbutils.taggers.settings import LoraSettings
def now(which):
    return int(re.search(which + r":\\s+(\\d+)", open("/proc/self/status").read()).group(1)) * 1024
def two_steps(config, rows, tokens, again):
    model = get_peft_model(AutoModelForCausalLM.from_config(config), meter.lora_config(LoraSettings(model="x"))).train()
    if again:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    ids = torch.randint(0, config.vocab_size, (rows, tokens))
    for _ in range(2):
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
torch.set_num_threads(1)
values, rows, tokens = json.loads(sys.argv[1])
small = values | {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 50}
for again in (True, False):
    two_steps(LlamaConfig(**small), 1, 8, again)  # now all libraries are loaded
before = now("VmRSS")
for again in (True, False):  # the smaller one first, since the highest mark only rises
    two_steps(LlamaConfig(**values), rows, tokens, again)
    print(now("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_estimated_memory_is_within_a_third_of_what_a_process_takes():
    rows, tokens = 4, 192
    # Memory that is freed goes back at once, as in a GPU's allocator, else the mark shows the C library's stock.
    environment = os.environ | dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), "65536")
    command = [sys.executable, "-c", MEASURE, json.dumps([MIDDLING, rows, tokens])]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    out = process.stdout.split()
    for again, measured in zip((True, False), map(int, out), strict=True):
        settings = LoraSettings(model="x", gradient_checkpointing=again, accumulation=1)
        estimate = meter.step_cost(LlamaConfig(**MIDDLING), settings, rows, tokens).peak_bytes
        print(f"estimated {estimate / 2**20:.0f} MiB, measured {measured / 2**20:.0f} MiB")
        assert measured / 1.33 < estimate < measured * 1.33


@pytest.mark.gpu
@pytest.mark.parametrize("again", [False, True])
def test_the_estimated_memory_of_a_random_8b_is_within_a_third_of_what_a_gpu_allocates(swallow, again):
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    settings = LoraSettings(model=SWALLOW, bf16=True, gradient_checkpointing=again, accumulation=1)
    estimate = meter.step_cost(swallow, settings, 4, 300).peak_bytes
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(swallow, dtype=torch.bfloat16)
        model = get_peft_model(model, meter.lora_config(settings)).train()
    if again:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    ids = torch.randint(0, 1000, (4, 300), device="cuda")
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    measured = torch.cuda.max_memory_allocated()
    assert measured / 1.33 < estimate < measured * 1.33


def test_more_layers_than_were_walked_through_cost_as_much_as_if_they_all_had_been():
    settings = LoraSettings(model="x", gradient_checkpointing=True)
    config = LlamaConfig(**MIDDLING)
    total = meter.step_cost(config, settings, 2, 64)
    _, flops, calls = meter._one_batch(config, settings, 2, 64)
    assert total.flops == pytest.approx(flops * settings.accumulation, rel=1e-6)
    assert total.calls == pytest.approx(calls * settings.accumulation, rel=0.01)


def test_operations_agree_with_the_rule_of_four_a_frozen_weight_and_token():
    """Two forward, two for the gradient that passes through; the frozen weights get none of their own."""
    rows, tokens = 2, 64
    cost = meter.step_cost(LlamaConfig(**MIDDLING), LoraSettings(model="x", accumulation=1), rows, tokens)
    weights = cost.parameters - MIDDLING["vocab_size"] * MIDDLING["hidden_size"]  # an embedding multiplies nothing
    assert cost.flops == pytest.approx(4 * weights * rows * tokens, rel=0.15)


def test_gradient_checkpointing_and_four_bits_lower_the_memory():
    plain, again, four = (
        meter.step_cost(LlamaConfig(**MIDDLING), LoraSettings(model="x", bf16=True, **o), 2, 64)
        for o in ({}, {"gradient_checkpointing": True}, {"gradient_checkpointing": True, "load_in_4bit": True})
    )
    assert plain.peak_bytes > again.peak_bytes > four.peak_bytes
    assert plain.flops < again.flops
    assert four.trainable == plain.trainable


def test_the_plan_of_the_paper_is_printed_without_its_corpus_and_its_models(monkeypatch, capsys):
    monkeypatch.delenv("MEDTXT_CR", raising=False)
    monkeypatch.setattr("tools.plan._cost", lambda *_: meter.Cost(8_072_204_288, 41_943_040, 10**10, 10**11, 1e15, 9))
    monkeypatch.setattr("tools.plan._prompting_cost", lambda *_: (8_030_261_248, 16 * 10**9, 10**11))
    assert plan.main(["studies/paper.yaml", "--device", "a100"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("only the memory is estimated.\n")
    assert "swallow-few ← PN" in out and "gpt-4o" not in out  # nothing of an endpoint is loaded here
    assert "41.9" in out and "stands in for its size" in out and "DOES NOT FIT" in out


def test_a_prompted_model_takes_its_weights_the_keys_and_values_and_more_with_each_row():
    config = LlamaConfig(**MIDDLING)
    total, weights, peak = meter.prompting_cost(config, True, 4, 256)
    assert weights == 2 * total
    kept = 2 * 4 * 256 * MIDDLING["num_hidden_layers"] * MIDDLING["hidden_size"] // 2 * 2  # two heads share a key; bf16
    assert weights + kept < peak < meter.prompting_cost(config, True, 8, 256)[2]


def test_the_tokens_of_a_prompt_hold_guideline_example_note_and_answer(monkeypatch):
    monkeypatch.delenv("MEDTXT_CR", raising=False)
    s = load_study(ROOT / "studies" / "paper.yaml")
    zero, few = (
        plan.prompt_lengths(s, s.systems[name], "PN", systems.settings(s, s.systems[name], "PN"))
        for name in ("swallow-zero", "swallow-few")
    )
    target = split(s, open_corpus(s, "PN"))[1]
    assert len(zero) == len(few) > len(target)  # PN's test part, and all of CR
    assert all(a < b for a, b in zip(zero, few, strict=True))


def test_a_study_of_endpoints_alone_has_nothing_to_plan(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "corpora: {A: {path: data/cr}}\nsystems: {icl: {model: m, endpoint: 'http://127.0.0.1:8000/v1'}}\n",
        encoding="utf-8",
    )
    assert plan.main([str(path)]) == 1
    assert "nothing to plan" in capsys.readouterr().err


def test_a_model_that_nobody_knows_is_one_sentence(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("corpora: {A: {path: data/cr}}\nsystems: {bert: {model: nobody/nothing}}\n", encoding="utf-8")
    assert plan.main([str(path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(DataError, match="not known here"):
        plan.architecture("nobody/nothing")
