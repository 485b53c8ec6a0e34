"""A training that was cut off goes on to the very same model; what memory does not allow is said in one sentence."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from functools import partial

import pytest
import torch
from transformers.trainer_callback import TrainerCallback

from nbutils import ROOT
from nbutils.corpus import Corpus, sentence_spans
from nbutils.corpus.formats import write_medtxt
from nbutils.files import DataError
from nbutils.study.execute import execute
from nbutils.study.file import load_study
from nbutils.study.runs import checkpoint_folder
from nbutils.taggers import bert, checksums, lora, training
from nbutils.taggers.models import load_causal, load_encoder
from nbutils.taggers.offsets import encode_with_offsets
from nbutils.taggers.settings import BertSettings, LoraSettings
from nbutils.taggers.usage import Tokens


class Cut(Exception):
    """The power fails."""


class CutAt(TrainerCallback):
    """The training stops dead after an optimiser step (None: never); notes at which step it began."""

    def __init__(self, step, began):
        self.step, self.began = step, began

    def on_train_begin(self, args, state, control, **_):
        self.began.append(state.global_step)

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            raise Cut


@pytest.fixture
def cut(monkeypatch):
    """Cut off every training from now on after the given step; returns the list of the steps at which they begin."""

    def after(step):
        def init(self, *args, **kwargs):
            original(self, *args, **kwargs)
            self.add_callback(CutAt(step, began))

        began = []
        monkeypatch.setattr(training._Trainer, "__init__", init)
        return began

    original = training._Trainer.__init__
    return after


def bert_system(folder, **options):
    chosen = {"learning_rate": 2e-3, "epochs": 2, "batch_size": 8, "warmup": 0.1} | options
    return bert, BertSettings(model=str(folder), **chosen)


def lora_system(folder, **options):
    chosen = {"learning_rate": 3e-3, "epochs": 2, "batch_size": 4, "accumulation": 2, "dropout": 0.2} | options
    chosen = {"prompt": "tiny_ja", "max_length": 100, "train_tags": True} | chosen
    return lora, LoraSettings(model=str(folder), **chosen)


def classify_system(folder, **options):
    return lora_system(folder, **{"head": "classify", "train_tags": False} | options)


def found(tagger, notes):
    return [(p.document_id, [(*e.key, e.score) for e in p.entities]) for p in tagger.predict(notes)]


SYSTEMS = [
    pytest.param("micro_encoder", bert_system, id="bert"),
    pytest.param("micro_llm", lora_system, id="lora"),
    pytest.param("micro_llm", classify_system, id="classify"),
]


@pytest.mark.parametrize(("model", "system"), SYSTEMS)
def test_a_training_cut_off_at_any_step_goes_on_to_the_same_predictions(model, system, notes, request, cut, tmp_path):
    """Every second of six steps is kept; cuts fall before the first one kept, and behind one in either epoch."""
    module, settings = system(request.getfixturevalue(model))
    whole = found(module.fit(notes[:9], settings, seed=3, progress=False), notes)
    assert sum(len(entities) for _, entities in whole) > 0
    for step, kept in ((1, 0), (3, 2), (5, 4)):
        checkpoints = tmp_path / f"cut-{step}"
        cut(step)
        with pytest.raises(Cut):
            module.fit(notes[:9], settings, seed=3, progress=False, checkpoints=checkpoints, checkpoint_steps=2)
        began = cut(None)
        torch.manual_seed(99)  # another process stands elsewhere in its random numbers
        tagger = module.fit(notes[:9], settings, seed=3, progress=False, checkpoints=checkpoints, checkpoint_steps=2)
        assert began == [kept]
        assert found(tagger, notes) == whole, f"cut off after step {step}"


DAMAGED = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "checksums.json"]


@pytest.mark.parametrize("name", [*DAMAGED, "all"])
def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(name, micro_encoder, notes, cut, tmp_path):
    """A disk that fails, or a power cut behind the name but before the contents."""
    module, settings = bert_system(micro_encoder)
    whole = found(module.fit(notes[:9], settings, seed=3, progress=False), notes)
    kept = {"progress": False, "checkpoints": tmp_path, "checkpoint_steps": 1}
    cut(3)
    with pytest.raises(Cut):
        module.fit(notes[:9], settings, seed=3, **kept)
    newest = tmp_path / "checkpoint-2"
    for path in newest.iterdir() if name == "all" else [newest / name]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "checkpoint-99").mkdir()  # cut off while it was written
    (tmp_path / "checkpoint-99" / "model.safetensors").write_bytes(b"half")
    began = cut(None)
    tagger = module.fit(notes[:9], settings, seed=3, **kept)
    assert began == [1] and found(tagger, notes) == whole


@pytest.mark.parametrize(("model", "system"), SYSTEMS)
def test_gradient_checkpointing_changes_the_memory_and_not_the_model(model, system, notes, request):
    results = []
    for again in (False, True):
        module, settings = system(request.getfixturevalue(model), gradient_checkpointing=again)
        tagger = module.fit(notes[:6], settings, seed=0, progress=False)
        results.append([p.detach().clone() for p in tagger.model.parameters() if p.requires_grad])
        found(tagger, notes[:2])  # and the model still tags
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("model", "system"), SYSTEMS)
def test_half_batches_and_twice_the_accumulation_take_as_many_steps(model, system, notes, request):
    module, settings = system(request.getfixturevalue(model))
    steps = []
    for batch_size, accumulation in ((8, 1), (4, 2)):
        values = asdict(settings) | {"batch_size": batch_size, "accumulation": accumulation, "labels": ("d",)}
        tagger = []

        class Count(TrainerCallback):
            def on_train_end(self, args, state, control, **_):
                tagger.append(state.max_steps)  # noqa: B023

        with pytest.MonkeyPatch.context() as patch:
            original = training._Trainer.__init__

            def init(self, *args, original=original, count=Count, **kwargs):
                original(self, *args, **kwargs)
                self.add_callback(count())

            patch.setattr(training._Trainer, "__init__", init)
            module.fit(notes[:8], type(settings)(**values), seed=0, progress=False)
        steps += tagger
    assert steps[0] == steps[1] > 0


@pytest.mark.parametrize(("model", "system"), SYSTEMS)
def test_bf16_training_ends_near_the_one_in_single_precision(model, system, notes, request):
    """Loss by loss the two differ in the third digit; the tagger works after either."""
    module, settings = system(request.getfixturevalue(model), bf16=True)
    tagger = module.fit(notes[:6], settings, seed=0, progress=False)
    assert len(found(tagger, notes[:2])) == 2


@pytest.mark.parametrize(("model", "system"), SYSTEMS)
def test_training_goes_on_from_a_saved_tagger_whatever_the_seed(model, system, notes, request, tmp_path):
    """A step of no size leaves the saved tagger as it was; a real one changes it."""
    module, settings = system(request.getfixturevalue(model))
    first = module.fit(notes[:9], settings, seed=3, progress=False)
    first.save(tmp_path / "model")
    options = {"seed": 8, "progress": False, "start": tmp_path / "model"}
    spans = [(name, [e[:3] for e in entities]) for name, entities in found(first, notes)]
    still = module.fit(notes[:4], replace(settings, learning_rate=1e-12, epochs=1), **options)
    assert [(name, [e[:3] for e in entities]) for name, entities in found(still, notes)] == spans
    assert found(module.fit(notes[:4], settings, **options), notes) != found(first, notes)


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "system"), SYSTEMS)
def test_no_memory_while_training_is_one_sentence_with_the_numbers(model, system, notes, request, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    module, settings = system(request.getfixturevalue(model))
    monkeypatch.setattr(training._Trainer, "training_step", fail)
    with pytest.raises(DataError) as caught:
        module.fit(notes[:6], settings, seed=0, progress=False)
    sentence = str(caught.value)
    assert f"batches of {settings.batch_size} × up to" in sentence and "\n" not in sentence
    assert f"lower batch_size to {settings.batch_size // 2}" in sentence and "gradient_checkpointing" in sentence


@pytest.mark.parametrize(
    ("model", "system", "key"), [("micro_encoder", bert_system, "batch_size"), ("micro_llm", lora_system, "decode")]
)
def test_no_memory_while_tagging_names_the_key_to_lower(model, system, key, notes, request, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    module, settings = system(request.getfixturevalue(model), epochs=1)
    tagger = module.fit(notes[:2], settings, seed=0, progress=False)
    body = tagger.model if module is bert else tagger.model.get_base_model().get_decoder()
    monkeypatch.setattr(type(body), "forward", fail)
    with pytest.raises(DataError, match=f"while tagging batches of .* lower {key}"):
        tagger.predict(notes[:2])


def test_any_other_error_stays_what_it_is():
    with pytest.raises(RuntimeError, match="shapes"), training.memory_hint("training", "lower batch_size"):
        raise RuntimeError("shapes cannot be multiplied")


# --- several processes ------------------------------------------------------------------------------------------------


def test_each_process_of_accelerate_takes_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert training.device() == torch.device("cuda", 2)
    monkeypatch.delenv("LOCAL_RANK")
    assert training.device() == torch.device("cuda", 0)


def test_training_needs_no_second_gpu(monkeypatch):
    """On seeing several GPUs Trainer alone would feed each a batch: four times the paper's batch size, in silence."""

    class Seen:
        parallel_mode = training.ParallelMode.NOT_DISTRIBUTED
        n_gpu = _n_gpu = 4

    assert training._one_device(Seen())._n_gpu == 1


# --- in a study -------------------------------------------------------------------------------------------------------


def small_study(folder, notes, model, checkpoint_steps, epochs, batch_size):
    """A study of these notes with one encoder, kept every so many steps."""
    write_medtxt(Corpus("A", notes), folder / "a.xml")
    path = folder / "mine.yaml"
    path.write_text(
        f"corpora: {{A: {{path: {folder / 'a.xml'}}}}}\ncheckpoint_steps: {checkpoint_steps}\nsystems:\n"
        f"  bert: {{model: {model}, epochs: {epochs}, batch_size: {batch_size}, learning_rate: 2.0e-3}}\n",
        encoding="utf-8",
    )
    return load_study(path)


def predicted(run):
    return (run.folder / "predictions" / "A.jsonl").read_text(encoding="utf-8")


def test_a_run_of_a_study_that_was_cut_off_goes_on_and_leaves_no_checkpoint(micro_encoder, notes, cut, tmp_path):
    plan = small_study(tmp_path, notes, micro_encoder, checkpoint_steps=2, epochs=2, batch_size=8)
    whole = execute(plan, "bert", "A", 0, runs=tmp_path / "whole", progress=False)
    cut(3)
    with pytest.raises(Cut):
        execute(plan, "bert", "A", 0, runs=tmp_path / "runs", progress=False)
    (checkpoint,) = (tmp_path / "runs").rglob("checkpoint-2")
    assert not list((tmp_path / "runs").rglob("run.json"))
    assert 0 < json.loads((checkpoint / "seconds.json").read_text()) < 100
    (checkpoint / "seconds.json").write_text("1000")
    checksums.write(checkpoint)
    began = cut(None)
    run = execute(plan, "bert", "A", 0, runs=tmp_path / "runs", progress=False)
    assert run.record["seconds"]["fit"] > 1000 > whole.record["seconds"]["fit"]
    assert began == [2] and run.record["resumed"] and not whole.record["resumed"]
    assert not (run.folder / "checkpoints").exists()
    assert predicted(run) == predicted(whole)


def test_a_process_that_is_killed_while_it_trains_goes_on_to_the_same_predictions(micro_encoder, notes, tmp_path):
    plan = small_study(tmp_path, notes, micro_encoder, checkpoint_steps=1, epochs=6, batch_size=4)
    whole = execute(plan, "bert", "A", 0, runs=tmp_path / "whole", progress=False)
    call = f"execute(load_study({str(plan.path)!r}), 'bert', 'A', 0, runs={str(tmp_path)!r})"
    command = [sys.executable, "-c", f"from nbutils import execute, load_study; {call}"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, env=os.environ | threads, stderr=subprocess.DEVNULL)
    while not list(tmp_path.rglob("mine/**/checkpoint-*")) and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    run = execute(plan, "bert", "A", 0, runs=tmp_path, progress=False)
    assert run.record["resumed"]
    assert predicted(run) == predicted(whole)


def test_tokens_are_counted_as_the_models_meet_them(micro_encoder, micro_llm, notes):
    lines = [(d, s, e) for d in notes for s, e in sentence_spans(d)]
    module, settings = bert_system(micro_encoder, epochs=1)
    tagger = module.fit(notes, settings, seed=0, progress=False)
    tagger.predict(notes)
    n_ids = sum(len(tagger.tokenizer(d.text[s:e])["input_ids"]) for d, s, e in lines)  # special ones included
    assert tagger.used == Tokens(n_ids, 0)
    tagger.predict(notes)
    assert tagger.used == Tokens(2 * n_ids, 0)
    module, settings = lora_system(micro_llm, epochs=0)
    settings = replace(settings, max_length=400)  # no line is cut
    tagger = module.fit(notes, settings, seed=0, progress=False)
    n_tags = 2 * sum(len(p.entities) for p in tagger.predict(notes))
    encoded = partial(encode_with_offsets, tagger.tokenizer)
    prompts = [lora.prompt_ids(tagger.tokenizer, settings.prompt, encoded(d.text[s:e])) for d, s, e in lines]
    n_written = sum(len(tagger.tokenizer(d.text[s:e], add_special_tokens=False)["input_ids"]) for d, s, e in lines)
    assert tagger.used == Tokens(sum(map(len, prompts)), n_written + n_tags)


def test_checkpoints_of_other_settings_are_not_gone_on_from(tmp_path):
    old = checkpoint_folder(tmp_path, {"seed": 0})
    (old / "checkpoint-2").mkdir(parents=True)
    assert checkpoint_folder(tmp_path, {"seed": 0}) == old and old.exists()
    assert checkpoint_folder(tmp_path, {"seed": 1}) != old and not old.exists()


def test_leaving_out_the_logits_of_prompts_changes_neither_loss_nor_gradient(micro_llm, notes):
    settings = LoraSettings(model=str(micro_llm), prompt="tiny_ja", max_length=100)
    model, tokenizer = load_causal(settings)
    rows = lora.examples(notes[:4], tokenizer, settings, lora.TagTokens(tokenizer, ["d"]))
    whole, cut = lora.Collator(tokenizer)(rows), lora.Collator(tokenizer, model)(rows)
    shortest_prompt = min(row["labels"].count(-100) for row in rows)
    assert len(cut["logits_to_keep"]) == whole["labels"].shape[1] - shortest_prompt + 1 == cut["labels"].shape[1]
    found = []
    for batch in (whole, cut):
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        found.append((loss.detach(), model.get_input_embeddings().weight.grad.clone()))
    torch.testing.assert_close(found[0], found[1])


def test_a_batch_has_the_loss_of_its_rows_one_by_one(micro_llm, notes):
    """No row reads another one, and padding counts for nothing."""
    settings = LoraSettings(model=str(micro_llm), prompt="tiny_ja", max_length=100)
    model, tokenizer = load_causal(settings)
    collate = lora.Collator(tokenizer, model)
    rows = lora.examples(notes[:6], tokenizer, settings, lora.TagTokens(tokenizer, ["d"]))
    assert len({len(row["input_ids"]) for row in rows}) > 1
    targets = [sum(label != -100 for label in row["labels"]) for row in rows]
    with torch.inference_mode():
        together = model(**collate(rows)).loss
        alone = [model(**collate([row])).loss for row in rows]
    mean = sum(loss * n for loss, n in zip(alone, targets, strict=True)) / sum(targets)
    torch.testing.assert_close(together, mean, atol=1e-4, rtol=0)


def test_frozen_embeddings_stay_as_they_came_and_the_rest_learns(micro_encoder, notes):
    _, settings = bert_system(micro_encoder, freeze_embeddings=True)
    before = load_encoder(settings.model, None, ["O", "B-d", "I-d"])[0].state_dict()
    after = bert.fit(notes[:6], settings, seed=0, progress=False).model.state_dict()
    (pieces,) = [name for name in after if "tok_embeddings" in name or "word_embeddings" in name]
    assert torch.equal(before[pieces], after[pieces])
    layers = [name for name in after if ".layers." in name and after[name].dim() == 2]
    assert not any(torch.equal(before[name], after[name]) for name in layers)


def test_a_training_says_its_pace_and_its_end(micro_encoder, notes, monkeypatch, capsys):
    monkeypatch.setattr(training._Pace.__init__, "__defaults__", (0,))
    module, settings = bert_system(micro_encoder)
    module.fit(notes[:9], settings, seed=0)
    said = [line for line in capsys.readouterr().err.splitlines() if "steps/s" in line]
    assert re.search(r"step 2 of 6, [\d.]+ steps/s, expected end \d\d \w+ \d\d:\d\d", said[1])


# --- on a GPU ---------------------------------------------------------------------------------------------------------


def spans(tagger, notes):
    return {(p.document_id, *e.key) for p in tagger.predict(notes) for e in p.entities}


@pytest.mark.gpu
def test_a_bf16_training_on_a_gpu_that_was_cut_off_goes_on_from_its_checkpoint(micro_llm, notes, cut, tmp_path):
    """On a GPU sums of the backward pass may come in another order, so a few spans may differ."""
    module, settings = lora_system(micro_llm, bf16=True)
    whole = module.fit(notes[:9], settings, seed=3, progress=False)
    assert whole.model.dtype == torch.bfloat16 and whole.model.device.type == "cuda"
    kept = {"progress": False, "checkpoints": tmp_path, "checkpoint_steps": 2}
    cut(3)
    with pytest.raises(Cut):
        module.fit(notes[:9], settings, seed=3, **kept)
    began = cut(None)
    resumed = module.fit(notes[:9], settings, seed=3, **kept)
    assert began == [2]
    together, either = spans(whole, notes) & spans(resumed, notes), spans(whole, notes) | spans(resumed, notes)
    assert either and len(together) >= 0.8 * len(either)


@pytest.mark.gpu
def test_a_model_in_4_bits_is_tuned_saved_and_loaded(micro_llm, notes, tmp_path):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    module, settings = lora_system(micro_llm, bf16=True, load_in_4bit=True, train_tags=False)
    tagger = module.fit(notes[:9], settings, seed=3, progress=False)
    assert any(isinstance(m, bitsandbytes.nn.Linear4bit) for m in tagger.model.modules())
    tagger.save(tmp_path / "model")
    assert spans(lora.load(tmp_path / "model"), notes) == spans(tagger, notes)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="several processes need two GPUs")
def test_two_processes_train_one_run(micro_encoder, notes, tmp_path):
    plan = small_study(tmp_path, notes, micro_encoder, checkpoint_steps=2, epochs=2, batch_size=4)
    script = tmp_path / "train.py"
    call = f"execute(load_study({str(plan.path)!r}), 'bert', 'A', 0, runs={str(tmp_path)!r})"
    script.write_text(f"from nbutils import execute, load_study\n{call}\n", encoding="utf-8")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", str(script)]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert len(list(tmp_path.rglob("run.json"))) == 1
