"""Training an encoder in batches of like lengths beside padding to the limit, and scoring beside two libraries."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import torch
from transformers import BatchEncoding, BertConfig, BertForTokenClassification

from nbutils import ROOT
from nbutils.corpus import Document, Entity, Prediction
from nbutils.corpus.formats import read_corpus
from nbutils.scoring.spans import exact_scores
from nbutils.taggers import bert
from nbutils.taggers.bio import bio_labels
from nbutils.taggers.settings import BertSettings
from nbutils.taggers.tiny import character_tokenizer
from nbutils.taggers.training import pad, train
from tools.bench.decoding import annotated_lines

LIMIT = 512  # pieces; Table 2 of the paper


def training(lines: int, progress: Callable[[str], None] = print) -> pd.DataFrame:
    """Sentences a second of one epoch: our batches of like lengths, and every row padded to the encoder's limit.

    The same rows, model, optimiser and batch size, so the number of steps is the same; only the padding differs.
    """
    documents = read_corpus(ROOT / "data" / "cr").documents
    tokenizer = character_tokenizer(d.text for d in documents)
    rows = bert.examples(documents, tokenizer, BertSettings(model=""))
    rows = rows[:: max(len(rows) // lines, 1)][:lines]
    ours = bert.Collator(tokenizer)

    def padded(batch: list[dict[str, list[int]]]) -> BatchEncoding:
        out = ours(batch)
        fill = {"input_ids": ours.pad_id, "attention_mask": 0, "labels": -100}
        return BatchEncoding({k: torch.cat([v, pad([[fill[k]] * (LIMIT - v.shape[1])] * len(v), 0)], 1)
                              for k, v in out.items()})  # fmt: skip

    settings = BertSettings(model="", epochs=1, learning_rate=1e-4, batch_size=8)
    table = []
    for name, collate in ((f"padded to {LIMIT}", padded), ("batches of like lengths (ours)", ours)):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=128, intermediate_size=512, num_hidden_layers=3,
            num_attention_heads=4, max_position_embeddings=LIMIT, num_labels=len(bio_labels(("d",))),
        )  # fmt: skip
        begin = time.perf_counter()
        train(BertForTokenClassification(config), rows, collate, settings, seed=0, progress=False)  # fmt: skip
        seconds = time.perf_counter() - begin
        first = table[0]["seconds"] if table else seconds
        table.append({"method": name, "lines": len(rows), "seconds": seconds, "sentences/s": len(rows) / seconds,
                      "speed-up": first / seconds})  # fmt: skip
        progress(f"training, {name}: {len(rows) / seconds:.1f} sentences/s")
    return pd.DataFrame(table)


def scoring(sentences: int, progress: Callable[[str], None] = print) -> pd.DataFrame:
    """Seconds to score the same gold and predicted entities with ours, seqeval (strict) and nervaluate; and the counts.

    Each gets its own kind of input, made before the clock starts: entities, BIO labels, or dictionaries.
    """
    gold, predicted = sample(sentences)
    table: list[dict[str, Any]] = []
    for name, method, convert in (
        ("nbutils.scoring.spans", _ours, lambda sides: sides),
        ("seqeval (strict)", _seqeval, lambda sides: [_bio([d.text for d in gold], side) for side in sides]),
        ("nervaluate", _nervaluate, lambda sides: [_dicts(side) for side in sides]),
    ):
        sides = convert((gold, predicted))
        begin = time.perf_counter()
        counts = method(*sides)
        seconds = time.perf_counter() - begin
        table.append({"method": name, "sentences": sentences, "seconds": seconds, "matched": counts[0],
                      "predicted": counts[1], "gold": counts[2]})  # fmt: skip
        progress(f"scoring, {name}: {seconds:.1f} s for {sentences} sentences, matched {counts[0]}")
    for row in table:
        row["time over ours"] = row["seconds"] / table[0]["seconds"]
        row["equal counts"] = all(row[k] == table[0][k] for k in ("matched", "predicted", "gold"))
    return pd.DataFrame(table)


def sample(sentences: int, seed: int = 0) -> tuple[list[Document], list[Prediction]]:
    """Lines of the bundled case reports, again and again, and predictions that miss, move and invent some entities."""
    rng = random.Random(seed)
    lines = annotated_lines()
    documents, predictions = [], []
    for k in range(sentences):
        text, entities = lines[k % len(lines)]
        documents.append(Document(str(k), text, tuple(entities)))
        found = [e for e in entities if rng.random() > 0.2]
        moved = [Entity(e.start, e.end - 1) if rng.random() < 0.2 and e.end - e.start > 1 else e for e in found]
        free = max((e.end for e in entities), default=0)
        invented = [Entity(free, free + 1)] if free < len(text) and rng.random() < 0.3 else []
        predictions.append(Prediction(str(k), (*moved, *invented)))
    return documents, predictions


def _ours(gold: Sequence[Document], predicted: Sequence[Prediction]) -> tuple[int, int, int]:
    s = exact_scores(gold, predicted)
    return int(s.matched_gold), s.n_predicted, s.n_gold


def _bio(texts: Sequence[str], side: Sequence[Document | Prediction]) -> list[list[str]]:
    """One label a character."""
    rows = []
    for text, row in zip(texts, side, strict=True):
        labels = ["O"] * len(text)
        for e in row.entities:
            labels[e.start : e.end] = ["B-d"] + ["I-d"] * (e.end - e.start - 1)
        rows.append(labels)
    return rows


def _seqeval(gold: list[list[str]], predicted: list[list[str]]) -> tuple[int, int, int]:
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2

    p, r, _, n_gold = precision_recall_fscore_support(gold, predicted, average="micro", scheme=IOB2)
    matched = round(r * n_gold)
    return matched, round(matched / p), int(n_gold)


def _dicts(side: Sequence[Document | Prediction]) -> list[list[dict[str, Any]]]:
    """nervaluate's ends are inclusive."""
    return [[{"label": e.label, "start": e.start, "end": e.end - 1} for e in row.entities] for row in side]


def _nervaluate(gold: list[list[dict]], predicted: list[list[dict]]) -> tuple[int, int, int]:
    from nervaluate.evaluator import Evaluator

    found = Evaluator(gold, predicted, tags=["d"], loader="dict").evaluate()["overall"]["strict"]
    return found.correct, found.actual, found.possible


def bootstrapping(n_boot: int = 1000) -> pd.DataFrame:
    """Seconds for `n_boot` two-way bootstrap replicates of F1 on 100 notes and 3 seeds: ours beside a plain loop.

    The loop draws notes, sums their counts and divides, a replicate at a time, as one would write it down.
    """
    import numpy as np

    from nbutils.scoring.evaluation import Evaluation
    from nbutils.scoring.resampling import bootstrap
    from tools.interval_coverage import crossed_notes, simulated

    notes = Evaluation(crossed_notes(), simulated(np.random.default_rng(0), np.zeros((3, 100))))
    begin = time.perf_counter()
    bootstrap(notes, n_boot=n_boot)
    ours_seconds = time.perf_counter() - begin
    rng, cells = np.random.default_rng(0), notes.counts.reshape(3, 10, 10, 3).tolist()
    begin = time.perf_counter()
    for _ in range(n_boot):
        rows, columns = rng.integers(0, 10, 10).tolist(), rng.integers(0, 10, 10).tolist()
        for seed in cells:
            drawn = [seed[row][column] for row in rows for column in columns]
            m, p, g = (sum(counts[k] for counts in drawn) for k in range(3))
            2 * m / (p + g)
    loop_seconds = time.perf_counter() - begin
    rows = [("plain loop", loop_seconds, 1.0), ("scoring.resampling", ours_seconds, loop_seconds / ours_seconds)]
    return pd.DataFrame(
        rows, columns=[f"{n_boot:,} replicates, 100 notes, 3 seeds", "seconds", "speed-up over the loop"]
    )
