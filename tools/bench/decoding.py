"""Copy decoding beside Hugging Face's `generate`: same model, same notes, same run.

The model is a small Llama of random weights with Llama 3's vocabulary: time depends on shapes, not on what was learned.
Only what it answers has to be lifelike, so rows of its output layer are fitted to the lines at hand, and it tags them
as their annotators did (`teach`). All methods run this same model. Free generation is told the answer besides, as if a
trained model never went astray.
"""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import psutil
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessorList, PreTrainedTokenizerFast

from nbutils import ROOT
from nbutils.corpus import Entity, sentence_spans
from nbutils.corpus.formats import read_corpus
from nbutils.taggers.copying.decode import Copier, TagTokens, decode, shared_prefix
from nbutils.taggers.copying.mentions import Mentions

VOCABULARY = 128_256  # of Llama 3; the tokenizer trained here has fewer, the output layer has not
PIECES = 1_200  # of the tokenizer: about as many tokens a character as Llama 3's on Japanese case reports (0.93)
SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"  # as in Llama 3
Line = tuple[str, list[Entity]]
CONSTRAINED, OURS = "HF generate, constrained", "copy decoding (ours)"
REMEMBERING, TOLD = "ours, mentions remembered", "copy decoding, told the tags"
FREE, LOOKUP = "HF generate, free", "HF prompt lookup, free"


@dataclass(frozen=True)
class Task:
    """One model and the lines it is to tag, each with its prompt; what all methods are given alike."""

    model: Any
    tags: TagTokens
    texts: Sequence[str]
    prompts: Sequence[Sequence[int]]
    answers: Sequence[Sequence[int]]  # what free generation is told
    entities: Sequence[Sequence[Entity]]  # the same, as entities
    mentions: Mentions  # of all other lines


def measure(
    notes: dict[int, int], prefixes: Sequence[int], hidden: int, layers: int, progress: Callable[[str], None] = print
) -> pd.DataFrame:
    """Sentences a second, forward passes and memory of every method, by batch size and length of the shared prompt.

    Args:
        notes: number of lines by batch size.
        prefixes: tokens that all prompts begin with.
        hidden, layers: shape of the model.
    """
    every = annotated_lines()
    tokenizer = tokenizer_of([text for text, _ in every])
    tags = TagTokens(tokenizer, ["d"])
    lines = random.Random(0).sample(every, max(notes.values()))
    texts = [text for text, _ in lines]
    mentions = Mentions()
    for text, entities in every:
        if text not in texts:
            mentions.learn(text, mentions.guess(text), entities)
    shared = tokenizer("".join(text for text, _ in every[1::50]))["input_ids"]
    prompts = [[0, *tokenizer(text + "\n")["input_ids"]] for text in texts]
    rows = []
    for n_shared in prefixes:
        longer = [[*shared[:n_shared], *p] for p in prompts]
        model = random_model(hidden, layers)
        teach(model, tags, lines, longer)
        answers = [Copier(tags, text).write(entities) for text, entities in lines]
        task = Task(model, tags, texts, longer, answers, [entities for _, entities in lines], mentions)
        for size, n in notes.items():
            rows += _compare(task, size, n, n_shared, progress)
    return pd.DataFrame(rows)


def annotated_lines() -> list[Line]:
    """Every line of the bundled case reports."""
    return [
        (d.text[s:e], [Entity(x.start - s, x.end - s) for x in d.entities if s <= x.start < e])
        for d in read_corpus(ROOT / "data" / "cr")
        for s, e in sentence_spans(d)
    ]


def _compare(task: Task, size: int, n: int, n_shared: int, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    reference: list[list[int]] = []
    for name, method in METHODS.items():
        if name == LOOKUP and size > 1:
            continue  # Hugging Face's prompt lookup takes one text at a time
        method(task, [0], 1)  # the first call of anything is slow
        out, seconds, forwards, memory = _run(method, task, list(range(n)), size)
        reference = reference or out
        found = [len(Copier(task.tags, task.texts[k]).read(out[k])) for k in range(n)]
        rows.append({
            "shared prompt (tokens)": n_shared, "batch": size, "method": name, "lines": n, "seconds": seconds,
            "sentences/s": n / seconds, "forwards": forwards, "tokens": sum(map(len, out)), "entities": sum(found),
            "extra memory (MB)": memory / 1e6, "speed-up": rows[0]["seconds"] / seconds if rows else 1.0,
            "identical": sum(a == b for a, b in zip(out, reference, strict=True)),
        })  # fmt: skip
        progress(f"prompt {n_shared}, batch {size}, {name}: {n / seconds:.2f} sentences/s, {forwards} forwards")
    return rows


# --- the methods ----------------------------------------------------------------------------------------------------


def ours(
    task: Task, chosen: Sequence[int], size: int, guess: Callable[[int], Sequence[Entity]] = lambda k: ()
) -> list[list[int]]:
    prompts = [task.prompts[k] for k in chosen]
    prefix = shared_prefix(task.model, prompts)
    out = []
    for first in range(0, len(chosen), size):
        batch = chosen[first : first + size]
        copiers = [Copier(task.tags, task.texts[k]) for k in batch]
        guesses = [guess(k) for k in batch]
        written = decode(task.model, prompts[first : first + size], copiers, prefix=prefix, guesses=guesses)
        out += [tokens for tokens, _ in written]
    return out


def remembering(task: Task, chosen: Sequence[int], size: int) -> list[list[int]]:
    """As a tagger works once it has tagged the other lines of the corpus: their mentions are guessed again."""
    return ours(task, chosen, size, lambda k: task.mentions.guess(task.texts[k]))


def told(task: Task, chosen: Sequence[int], size: int) -> list[list[int]]:
    """With every tag guessed right, as no tagger's are: what is left are the windows and the computing itself."""
    return ours(task, chosen, size, lambda k: task.entities[k])


def constrained(task: Task, chosen: Sequence[int], size: int) -> list[list[int]]:
    """`prefix_allowed_tokens_fn` with our automaton."""
    return [row for k in range(0, len(chosen), size) for row in _constrained(task, chosen[k : k + size])]


def _constrained(task: Task, chosen: Sequence[int]) -> list[list[int]]:
    copiers = [Copier(task.tags, task.texts[k]) for k in chosen]
    longest, nodes = max(len(task.prompts[k]) for k in chosen), {}

    def allowed(row: int, written: torch.Tensor) -> list[int]:
        n = len(written) - longest
        before = nodes.get((row, n - 1))
        node = copiers[row].start if n == 0 else before and copiers[row].steps(before).get(int(written[-1]))
        nodes[row, n] = node
        return list(copiers[row].steps(node)) or [1] if node else [1]

    most_tokens = 4 * max(len(c.write([])) for c in copiers) + 16
    return _generate(task, chosen, prefix_allowed_tokens_fn=allowed, max_new_tokens=most_tokens)


def free(task: Task, chosen: Sequence[int], size: int, **options: Any) -> list[list[int]]:
    """Without a constraint, told the answer: the time of a trained model that makes no mistake."""
    out = []
    for first in range(0, len(chosen), size):
        batch = chosen[first : first + size]
        longest = max(len(task.prompts[k]) for k in batch)
        answers = [[*task.answers[k], 1] for k in batch]
        told = LogitsProcessorList([_Told(answers, longest)])
        most_tokens = max(map(len, answers))
        out += _generate(task, batch, logits_processor=told, max_new_tokens=most_tokens, **options)
    return out


class _Told:
    """Raises the logit of each row's next token of the answer."""

    def __init__(self, answers: Sequence[Sequence[int]], longest: int):
        self.answers, self.longest = answers, longest

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        n = ids.shape[1] - self.longest
        following = [answer[min(n, len(answer) - 1)] for answer in self.answers]
        scores[torch.arange(len(following)), following] += 1e4
        return scores


def _generate(task: Task, chosen: Sequence[int], **options: Any) -> list[list[int]]:
    """Hugging Face's greedy `generate`, left-padded."""
    prompts = [task.prompts[k] for k in chosen]
    longest = max(map(len, prompts))
    ids = torch.tensor([[1] * (longest - len(p)) + list(p) for p in prompts], device=task.model.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=task.model.device)
    out = task.model.generate(ids, attention_mask=mask, do_sample=False, pad_token_id=1, eos_token_id=1, **options)
    rows = [row[longest:].tolist() for row in out]
    return [row[: row.index(1)] if 1 in row else row for row in rows]


METHODS: dict[str, Callable[..., list[list[int]]]] = {
    CONSTRAINED: constrained,
    OURS: ours,
    REMEMBERING: remembering,
    TOLD: told,
    FREE: free,
    LOOKUP: lambda *a: free(*a, prompt_lookup_num_tokens=10),
}


# --- the model ------------------------------------------------------------------------------------------------------


def tokenizer_of(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE like Llama 3's, trained on these texts: it merges characters, splits rare ones, and has `<d` as a token."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = ByteLevelDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, *["<d></d>"] * 1000], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def random_model(hidden: int, layers: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, num_key_value_heads=max(hidden // 256, 1), max_position_embeddings=4096,
        bos_token_id=0, eos_token_id=1, pad_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return LlamaForCausalLM(config).eval().to(device)


def teach(model: Any, tags: TagTokens, lines: Sequence[Line], prompts: Sequence[Sequence[int]]) -> None:
    """Fit the output layer so that the model tags these lines as annotated; everything before it stays random.

    Cross-entropy over what the automaton allows at every place of the annotated answer: a convex problem in the rows of
    the tokens that are allowed anywhere. It makes a model that has learned these lines by heart, with as many entities
    a line as annotators set; it costs as much time as any other model of this shape.
    """
    states, allowed, right = _places(model, tags, lines, prompts)
    known = sorted({token for tokens in allowed for token in tokens})
    row = {token: k for k, token in enumerate(known)}
    most = max(map(len, allowed))
    rows = torch.tensor([[row[t] for t in a] + [-1] * (most - len(a)) for a in allowed], device=model.device)
    target = torch.tensor([a.index(t) for a, t in zip(allowed, right, strict=True)], device=model.device)
    head = model.get_output_embeddings().weight
    weight = head[known].detach().clone().requires_grad_()
    fit = torch.optim.LBFGS([weight], max_iter=50, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        fit.zero_grad()
        logits = (states @ weight.T).gather(1, rows.clamp(min=0)).masked_fill(rows < 0, float("-inf"))
        loss = torch.nn.functional.cross_entropy(logits, target)
        loss.backward()
        return loss

    fit.step(step)
    with torch.no_grad():
        head[known] = weight


@torch.no_grad()
def _places(
    model: Any, tags: TagTokens, lines: Sequence[Line], prompts: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, list[list[int]], list[int]]:
    """Where the annotated answers have a choice: hidden states [places, size], the tokens allowed, the right one."""
    states, allowed, right = [], [], []
    for (text, entities), prompt in zip(lines, prompts, strict=True):
        copier = Copier(tags, text)
        answer, node = copier.write(entities), copier.start
        hidden = model.get_decoder()(torch.tensor([[*prompt, *answer]], device=model.device)).last_hidden_state[0]
        for k, token in enumerate(answer, start=len(prompt) - 1):
            steps = copier.steps(node)
            if len(steps) > 1:
                states.append(hidden[k])
                allowed.append(list(steps))
                right.append(token)
            node = steps[token]
    return torch.stack(states), allowed, right


# --- measuring ------------------------------------------------------------------------------------------------------


def _run(method: Callable, task: Task, chosen: Sequence[int], size: int) -> tuple[list[list[int]], float, int, int]:
    """Output, seconds, forward passes, and the most memory beyond what was there before, in bytes."""
    passes: list[int] = []
    hook = task.model.get_decoder().register_forward_hook(lambda *_: passes.append(1))
    try:
        with Memory() as memory:
            begin = time.perf_counter()
            out = method(task, chosen, size)
            seconds = time.perf_counter() - begin
    finally:
        hook.remove()
    return out, seconds, len(passes), memory.extra


class Memory:
    """The most memory in use while this is open, beyond what was in use before: on the GPU, or of the process."""

    def __enter__(self) -> Memory:
        gc.collect()
        self.on_gpu, self.process, self.open = torch.cuda.is_available(), psutil.Process(), True
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        self.before = self.most = self._now()
        self.watch = threading.Thread(target=self._look, daemon=True)
        self.watch.start()
        return self

    def _now(self) -> int:
        return torch.cuda.max_memory_allocated() if self.on_gpu else self.process.memory_info().rss

    def _look(self) -> None:
        while self.open:
            self.most = max(self.most, self._now())
            time.sleep(0.01)

    def __exit__(self, *_: Any) -> None:
        self.open = False
        self.watch.join()
        self.extra = max(self.most, self._now()) - self.before
