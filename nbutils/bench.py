"""`make bench`: our copy-constrained decoding beside the usual ways, same model, same notes, one run, as ratios.

The model has random weights and the size of a small language model: time depends on shapes, not on what was learned.
Its tags come out at random places, about as many as a trained model sets.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nbutils import ROOT
from nbutils.copydecode import Copier, TagTokens, decode
from nbutils.formats import read_corpus, written_whole
from nbutils.tiny import bare_lines

VOCABULARY = 128_256  # of Llama 3; the tokenizer trained here is smaller, the output layer is not


def tokenizer_of(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE like Llama 3's, trained on these texts: it merges characters and splits rare ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=6000,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def random_model(hidden: int, layers: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, num_key_value_heads=max(hidden // 256, 1), max_position_embeddings=4096,
        bos_token_id=0, eos_token_id=1, pad_token_id=1, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def make_tags_rare(model: LlamaForCausalLM, tags: TagTokens, prompts: Sequence[Sequence[int]],
                   copiers: Sequence[Copier], per_token: float) -> None:  # fmt: skip
    """Move the opening tag's embedding until greedy decoding sets about `per_token` tags a token."""
    row = next(iter(tags.open.values()))[0]
    base = model.get_output_embeddings().weight.data[row].clone()
    low, high = -8.0, 8.0
    direction = _mean_hidden(model, prompts)
    for _ in range(8):
        middle = (low + high) / 2
        model.get_output_embeddings().weight.data[row] = base + middle * direction
        written = decode(model, prompts, copiers)
        n_tokens = sum(len(tokens) for tokens, _ in written)
        n_tags = sum(len(c.read(tokens)) for c, (tokens, _) in zip(copiers, written, strict=True))
        low, high = (middle, high) if n_tags < per_token * n_tokens else (low, middle)


@torch.inference_mode()
def _mean_hidden(model: LlamaForCausalLM, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    states = [model.get_decoder()(torch.tensor([p])).last_hidden_state[0].mean(0) for p in prompts[:8]]
    mean = torch.stack(states).mean(0)
    return mean / mean.norm() / mean.norm()


class CountedModel:
    """Counts the forward passes of a decoder while it is open."""

    def __init__(self, model: Any):
        self.decoder, self.forwards = model.get_decoder(), 0

    def __enter__(self) -> CountedModel:
        self.hook = self.decoder.register_forward_hook(lambda *_: setattr(self, "forwards", self.forwards + 1))
        return self

    def __exit__(self, *_: Any) -> None:
        self.hook.remove()


def ours(model: Any, prompts: list[list[int]], copiers: list[Copier], eos: int) -> list[list[int]]:
    return [tokens for tokens, _ in decode(model, prompts, copiers)]


def generate(model: Any, prompts: list[list[int]], copiers: list[Copier], eos: int, *, constrained: bool,
             **options: Any) -> list[list[int]]:  # fmt: skip
    """Hugging Face's greedy `generate`, left-padded, free or with the same constraint."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[eos] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    room = max(len(c.write([])) for c in copiers)
    if constrained:
        nodes: dict[tuple[int, int], Any] = {}

        def allowed(row: int, written: torch.Tensor) -> list[int]:
            n = len(written) - longest
            before = nodes.get((row, n - 1))
            node = copiers[row].start if n == 0 else before and copiers[row].steps(before).get(int(written[-1]))
            nodes[row, n] = node
            return list(copiers[row].steps(node)) or [eos] if node else [eos]

        options |= {"prefix_allowed_tokens_fn": allowed, "max_new_tokens": 4 * room + 16}
    else:
        options |= {"max_new_tokens": room, "min_new_tokens": room}
    out = model.generate(ids, attention_mask=mask, do_sample=False, pad_token_id=eos, eos_token_id=eos, **options)
    rows = [row[longest:].tolist() for row in out]
    return [row[: row.index(eos)] if eos in row else row for row in rows]


METHODS: dict[str, Callable[..., list[list[int]]]] = {
    "HF generate, constrained": lambda *a: generate(*a, constrained=True),
    "copy decoding (ours)": ours,
    "HF generate, free": lambda *a: generate(*a, constrained=False),
    "HF prompt lookup, free": lambda *a: generate(*a, constrained=False, prompt_lookup_num_tokens=10),
}


def measure(notes: int, batch_sizes: Sequence[int], prefixes: Sequence[int], hidden: int, layers: int) -> pd.DataFrame:
    """Sentences a second and forward passes of every method, batch size and shared-prompt length."""
    texts = bare_lines(read_corpus(ROOT / "data" / "cr").documents)
    tokenizer = tokenizer_of(texts)
    tags = TagTokens(tokenizer, ["d"])
    texts = texts[:: max(len(texts) // notes, 1)][:notes]
    model = random_model(hidden, layers)
    shared = tokenizer("".join(texts) * 8)["input_ids"]
    rows = []
    for prefix in prefixes:
        prompts = [[0, *shared[:prefix], *tokenizer(text + "\n")["input_ids"]] for text in texts]
        copiers = [Copier(tags, text) for text in texts]
        make_tags_rare(model, tags, prompts, copiers, per_token=0.05)
        for size in batch_sizes:
            reference = None
            for name, method in METHODS.items():
                if "lookup" in name and size > 1:
                    continue  # Hugging Face's prompt lookup takes one text at a time
                out, seconds, forwards = _run(method, model, prompts, copiers, size)
                if "constrained" in name:
                    reference = (out, seconds)
                same = sum(a == b for a, b in zip(out, reference[0], strict=True))
                n_entities = sum(len(c.read(o)) for c, o in zip(copiers, out, strict=True)) if "ours" in name else None
                rows.append({
                    "shared prompt (tokens)": prefix, "batch": size, "method": name,
                    "sentences/s": len(texts) / seconds, "forwards": forwards, "entities": n_entities,
                    "speed-up over constrained": reference[1] / seconds,
                    "identical to constrained": f"{same}/{len(texts)}" if "free" not in name else "—",
                })  # fmt: skip
                print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    return pd.DataFrame(rows)


def _run(method: Callable, model: Any, prompts: list, copiers: list, size: int) -> tuple[list, float, int]:
    out: list[list[int]] = []
    with CountedModel(model) as counted:
        begin = time.perf_counter()
        for k in range(0, len(prompts), size):
            out += method(model, prompts[k : k + size], copiers[k : k + size], 1)
        return out, time.perf_counter() - begin, counted.forwards


def measure_bootstrap(n_boot: int = 1000) -> pd.DataFrame:
    """Seconds for `n_boot` two-way bootstrap replicates of F1 on 100 notes and 3 seeds: ours beside a plain loop.

    The loop draws notes, sums their counts and divides, a replicate at a time, as one would write it down.
    """
    import numpy as np

    from nbutils.coverage import crossed_notes, simulated
    from nbutils.resampling import Evaluation, bootstrap

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
    rows = [("plain loop", loop_seconds, 1.0), ("nbutils.resampling", ours_seconds, loop_seconds / ours_seconds)]
    return pd.DataFrame(
        rows, columns=[f"{n_boot:,} replicates, 100 notes, 3 seeds", "seconds", "speed-up over the loop"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nbutils.bench", description=__doc__)
    parser.add_argument("--notes", type=int, default=32, help="lines of the bundled case reports")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--prefix", type=int, nargs="+", default=[0, 400])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench")
    chosen = parser.parse_args()
    print(measure_bootstrap().round(3).to_string(index=False), flush=True)
    table = measure(chosen.notes, chosen.batch, chosen.prefix, chosen.hidden, chosen.layers)
    with written_whole(chosen.out / "copydecode.json") as file:
        table.to_json(file, orient="records", indent=1, force_ascii=False)
    print(table.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
