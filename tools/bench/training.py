"""Training and tagging with an encoder, and tuning with LoRA, beside what a script around transformers would do."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from peft import get_peft_model
from transformers import (
    BertConfig,
    BertForTokenClassification,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    LlamaConfig,
    Trainer,
    TrainingArguments,
    pipeline,
    set_seed,
)
from transformers.trainer_callback import PrinterCallback

from nbutils import ROOT
from nbutils.corpus import Document
from nbutils.corpus.formats import read_corpus
from nbutils.taggers import bert, lora
from nbutils.taggers.bio import bio_labels
from nbutils.taggers.copying.decode import TagTokens
from nbutils.taggers.models import device, lora_config
from nbutils.taggers.settings import BertSettings, LoraSettings
from nbutils.taggers.tiny import character_tokenizer
from nbutils.taggers.training import LengthBatches, train
from tools.bench import Table
from tools.bench.decoding import annotated_lines, llama, random_model, tokenizer_of
from tools.bench.memory import clock

LIMIT = 512  # pieces; Table 2 of the paper
LABELS = bio_labels(("d",))
USUAL, GROUPED, OURS = "Trainer, padded to the longest", "Trainer, grouped by length", "ours"


def encoder(lines: int, progress: Callable[[str], None] = print) -> Table:
    """One epoch of the same rows, model, optimiser and batch size; only padding and the order of rows differ."""
    documents = read_corpus(ROOT / "data" / "cr").documents
    tokenizer = character_tokenizer(d.text for d in documents)
    rows = bert.examples(documents, tokenizer, BertSettings(model=""))
    rows = rows[:: max(len(rows) // lines, 1)][:lines]
    settings = BertSettings(model="", epochs=1, learning_rate=1e-4, batch_size=8)
    collate = bert.Collator(tokenizer)
    framed = [{k: v[0].tolist() for k, v in collate([row]).items() if k != "attention_mask"} for row in rows]
    usual = partial(DataCollatorForTokenClassification, tokenizer)
    ways = {
        f"Trainer, padded to {LIMIT}": (framed, usual(padding="max_length", max_length=LIMIT), "random"),
        USUAL: (framed, usual(), "random"),
        GROUPED: (framed, usual(), "group_by_length"),
        OURS: (rows, collate, None),
    }
    return _side_by_side(ways, partial(small_encoder, len(tokenizer)), settings, progress)


def lora_steps(lines: int, progress: Callable[[str], None] = print, config: LlamaConfig | None = None) -> Table:
    """One epoch of LoRA with the prompt of studies/small.yaml: padding and logits everywhere, as usual, beside ours.

    `loss before` is that of all target tokens in the batches of each way, with the adapter as it begins: the same rows
    and targets are trained on, however they are padded, ordered or cut.
    """
    every = annotated_lines("cr")
    tokenizer = tokenizer_of([text for text, _ in every])
    settings = LoraSettings(model="", prompt="tiny_ja", epochs=1, batch_size=4, accumulation=1, dropout=0.0)
    tags = TagTokens(tokenizer, settings.labels)
    chosen = every[:: max(len(every) // lines, 1)][:lines]
    documents = [Document(str(k), text, tuple(entities)) for k, (text, entities) in enumerate(chosen)]
    rows = lora.examples(documents, tokenizer, settings, tags)
    config = config or llama(256, 4, 49_152)  # the vocabulary of SmolLM2

    def model() -> Any:
        return get_peft_model(random_model(config, torch.float32), lora_config(settings))

    usual = DataCollatorForSeq2Seq(tokenizer)
    ways = {
        USUAL: (rows, usual, "random"),
        GROUPED: (rows, usual, "group_by_length"),
        OURS: (rows, lora.Collator(tokenizer, model()), None),
    }
    return _side_by_side(ways, model, settings, progress)


def _side_by_side(
    ways: dict[str, tuple[Sequence[dict[str, Any]], Callable, str | None]],
    new_model: Callable[[], Any],
    settings: BertSettings | LoraSettings,
    progress: Callable[[str], None],
) -> Table:
    """Each way trains a model that begins with the same weights; the last one is ours."""
    table: Table = []
    for name, (rows, collate, order) in ways.items():
        for chosen in (rows[: settings.batch_size], rows):  # the first call of anything is slow
            torch.manual_seed(0)
            model = new_model()
            before = _loss(model, chosen, collate, settings.batch_size, sort=order is None)
            begin = clock(device())
            if order is None:
                train(model, chosen, collate, settings, seed=0, progress=False)
            else:
                _usual(model, chosen, collate, settings, order)
            seconds = clock(device()) - begin
        steps = -(-len(rows) // settings.batch_size)
        table.append({"method": name, "rows": len(rows), "seconds": seconds, "steps/s": steps / seconds,
                      "loss before": before})  # fmt: skip
        progress(f"training, {name}: {steps / seconds:.2f} steps/s")
    for row in table:
        row["time over ours"] = row["seconds"] / table[-1]["seconds"]
        row["equal loss"] = abs(row["loss before"] - table[-1]["loss before"]) < 1e-4
    return table


def _usual(model: Any, rows: Sequence[Any], collate: Callable, settings: Any, order: str) -> None:
    """Hugging Face's Trainer as its documentation sets it up."""
    set_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch, num_train_epochs=settings.epochs, learning_rate=settings.learning_rate,
            per_device_train_batch_size=settings.batch_size, train_sampling_strategy=order, save_strategy="no",
            report_to=[], disable_tqdm=True, use_cpu=device().type == "cpu", logging_strategy="epoch", seed=0,
            dataloader_pin_memory=torch.cuda.is_available(),
        )  # fmt: skip
        trainer = Trainer(model=model, args=arguments, train_dataset=list(rows), data_collator=collate)
        trainer.remove_callback(PrinterCallback)
        trainer.train()


@torch.no_grad()
def _loss(model: Any, rows: Sequence[Any], collate: Callable, size: int, *, sort: bool) -> float:
    """Mean loss of the target tokens of all rows, in batches as they are trained on."""
    model.eval()
    order = LengthBatches([len(row["input_ids"]) for row in rows], size, 0) if sort else range(len(rows))
    order, total, tokens = list(order), 0.0, 0
    for k in range(0, len(order), size):
        batch = {name: t.to(device()) for name, t in collate([rows[n] for n in order[k : k + size]]).items()}
        labels = batch["labels"]
        # A causal model predicts the next token, so the first label is no target.
        n = int((labels[:, 1:] != -100).sum() if isinstance(collate, _CAUSAL) else (labels != -100).sum())
        total += n * float(model(**batch).loss)
        tokens += n
    model.train()
    return total / tokens


_CAUSAL = (DataCollatorForSeq2Seq, lora.Collator)


def small_encoder(pieces: int) -> BertForTokenClassification:
    """A BERT of random weights."""
    config = BertConfig(
        vocab_size=pieces, hidden_size=128, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=LIMIT, id2label=dict(enumerate(LABELS)), label2id={n: k for k, n in enumerate(LABELS)},
    )  # fmt: skip
    return BertForTokenClassification(config).to(device())


# --- tagging ----------------------------------------------------------------------------------------------------------


def tagging(notes: int, progress: Callable[[str], None] = print) -> Table:
    """Notes of one line each a second: our tagger beside `pipeline("token-classification")`, and spaCy where it is.

    The encoder is trained for an epoch first, so that it tags about as much as annotators. `identical` counts notes
    with the same spans; spaCy's model is another one, of another size, and its spans are not compared.
    """
    lines = [(text, entities) for name in ("cr", "pn") for text, entities in annotated_lines(name)]
    tokenizer = character_tokenizer(text for text, _ in lines)
    settings = BertSettings(model="", epochs=1, learning_rate=2e-3, batch_size=16)
    torch.manual_seed(0)
    tagger = bert.BertTagger(small_encoder(len(tokenizer)), tokenizer, settings)
    learned = [Document(str(k), text, tuple(entities)) for k, (text, entities) in enumerate(lines[: notes // 2])]
    train(tagger.model, bert.examples(learned, tokenizer, settings), bert.Collator(tokenizer), settings, seed=0,
          progress=False)  # fmt: skip
    texts = [lines[k % len(lines)][0] for k in range(notes)]
    table: Table = []
    reference: list[list[tuple[int, int]]] = []
    for name, method in _taggers(tagger, progress).items():
        method(texts[:8])  # the first call of anything is slow
        begin = clock(device())
        spans = method(texts)
        seconds = clock(device()) - begin
        reference = reference or spans
        same = sum(a == b for a, b in zip(reference, spans, strict=True)) if spans else None
        over = seconds / table[0]["seconds"] if table else 1.0
        table.append({"method": name, "notes": notes, "seconds": seconds, "notes/s": notes / seconds,
                      "time over ours": over, "identical": same})  # fmt: skip
        progress(f"tagging, {name}: {notes / seconds:.0f} notes/s")
    return table


def _taggers(tagger: bert.BertTagger, progress: Callable[[str], None]) -> dict[str, Callable]:
    """Functions from texts to their spans, or to nothing that could be compared."""

    def ours(texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        predictions = tagger.predict([Document(str(k), text) for k, text in enumerate(texts)])
        return [[(e.start, e.end) for e in p.entities] for p in predictions]

    def piped(strategy: str, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        found = pipes[strategy](list(texts), batch_size=4 * tagger.settings.batch_size)
        return [[(e["start"], e["end"]) for e in of_one] for of_one in found]

    pipes = {
        strategy: pipeline(
            "token-classification", model=tagger.model, tokenizer=tagger.tokenizer, aggregation_strategy=strategy,
            device=device(),
        )
        for strategy in ("simple", "first")
    }  # fmt: skip
    methods = {OURS: ours} | {f"pipeline, {strategy}": partial(piped, strategy) for strategy in pipes}
    if find_spec("ja_ginza") is None:
        progress("tagging, GiNZA: not measured, since spaCy and ja_ginza are not installed")
        return methods
    import spacy

    model = spacy.load("ja_ginza")

    def ginza(texts: Sequence[str]) -> list:
        """Tag, and return nothing: another model's spans are not compared."""
        deque(model.pipe(texts, batch_size=64), maxlen=0)
        return []

    return methods | {"GiNZA (another model)": ginza}
