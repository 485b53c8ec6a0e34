"""Copy decoding beside the usual ways: same model, same notes, same run.

The model is a Llama of random weights: time depends on shapes, not on what was learned. Only what it answers has to be
lifelike, so rows of its output layer are fitted to the lines at hand, and it tags them as their annotators did
(`teach`). All methods run this same model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification, PreTrainedTokenizerFast

from nbutils import ROOT
from nbutils.corpus import Entity, sentence_spans
from nbutils.corpus.formats import read_corpus
from nbutils.taggers.copying import decode as copying
from nbutils.taggers.copying.decode import Copier, TagTokens, decode, shared_prefix
from tools.bench import Table
from tools.bench.memory import Memory, bandwidth, clock, this_device

PIECES = 1_200  # of the tokenizer: about as many tokens a character as Llama 3's on Japanese case reports (0.93)
SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"  # as in Llama 3
AHEAD, SUFFIX = 10, 8  # tokens that a repetition drafts, and the longest suffix that is looked for
Line = tuple[str, list[Entity]]
CONSTRAINED, LOOKUP = "HF generate, constrained", "HF prompt lookup, constrained"
REPEATING, OURS = "suffix drafts, constrained", "copy decoding (ours)"
TOLD, CLASSIFIER = "copy decoding, told every tag", "token classifier, no decoding"


@dataclass(frozen=True)
class Task:
    """One model and the lines it is to tag, each with its prompt; what all methods are given alike."""

    model: Any
    classifier: Any  # the same layers under a head for labels
    tags: TagTokens
    texts: Sequence[str]
    prompts: Sequence[Sequence[int]]
    entities: Sequence[Sequence[Entity]]


def measure(
    config: LlamaConfig,
    notes: dict[int, int],
    prefixes: Sequence[int],
    progress: Callable[[str], None],
    dtype: torch.dtype = torch.float32,
) -> Table:
    """Sentences a second, forward passes and memory of every method, by batch size and length of the shared prompt.

    Args:
        config: the shape of the model.
        notes: number of lines by batch size.
        prefixes: tokens that all prompts begin with.
        dtype: of the weights.
    """
    every = annotated_lines("cr")
    tokenizer = tokenizer_of([text for text, _ in every])
    tags = TagTokens(tokenizer, ["d"])
    lines = random.Random(0).sample(every, max(notes.values()))
    shared = tokenizer("".join(text for text, _ in every[1::50]))["input_ids"]
    prompts = [[0, *tokenizer(text + "\n")["input_ids"]] for text, _ in lines]
    model = random_model(config, dtype)
    classifier = with_labels(model)
    per_byte = 1 / bandwidth(model.device)
    rows: Table = []
    for n_shared in prefixes:
        longer = [[*shared[:n_shared], *p] for p in prompts]
        teach(model, tags, lines, longer)
        task = Task(model, classifier, tags, [text for text, _ in lines], longer, [entities for _, entities in lines])
        for size, n in notes.items():
            rows += _compare(task, size, n, n_shared, per_byte, progress)
    return rows


def annotated_lines(corpus: str, notes: int | None = None) -> list[Line]:
    """Every line of so many notes of a bundled corpus (`cr`, `pn`), spread over all of it; None: of all notes."""
    documents = read_corpus(ROOT / "data" / corpus).documents
    step = max(len(documents) // notes, 1) if notes else 1
    return [
        (d.text[s:e], [Entity(x.start - s, x.end - s) for x in d.entities if s <= x.start < e])
        for d in documents[::step][:notes]
        for s, e in sentence_spans(d)
    ]


def _compare(task: Task, size: int, n: int, n_shared: int, per_byte: float, progress: Callable[[str], None]) -> Table:
    rows: Table = []
    reference: list[list[int]] = []
    for name, method in METHODS.items():
        if name == LOOKUP and size > 1:
            continue  # Hugging Face's prompt lookup takes one text at a time
        method(task, [0], 1)  # the first call of anything is slow
        out, seconds, passes, memory = _run(method, task, list(range(n)), size)
        reference = reference or out
        entities = [len(Copier(task.tags, task.texts[k]).read(out[k])) for k in range(n)] if out else None
        rows.append({
            "shared prompt (tokens)": n_shared, "batch": size, "method": name, "lines": n, "seconds": seconds,
            "sentences/s": n / seconds, "passes": passes,
            "bound (passes)": _bound(task, n, size, n_shared) if name == OURS else None,
            "weights ÷ bandwidth (s)": passes * weight_bytes(task.model) * per_byte,
            "tokens": sum(map(len, out)) if out else None, "entities": sum(entities) if entities else None,
            "extra memory (MB)": memory / 1e6, "speed-up": rows[0]["seconds"] / seconds if rows else 1.0,
            "identical": sum(a == b for a, b in zip(out, reference, strict=True)) if out else None,
        })  # fmt: skip
        progress(f"prompt {n_shared}, batch {size}, {name}: {n / seconds:.2f} sentences/s, {passes} passes")
    for row in rows:
        row["time over the classifier"] = row["seconds"] / rows[-1]["seconds"]
    return rows


def _bound(task: Task, n: int, size: int, n_shared: int) -> int:
    from tools.bench.passes import bound

    copiers = [Copier(task.tags, text) for text in task.texts[:n]]
    lines = list(zip(task.texts, task.entities, strict=True))[:n]
    batches = range(0, n, size)
    device = task.model.device.type
    return sum(bound(copiers[k : k + size], lines[k : k + size], device) for k in batches) + (n_shared > 0)


def weight_bytes(model: Any) -> int:
    """What a pass has to read: all weights but the embeddings, of which it looks up a few rows."""
    embeddings = model.get_input_embeddings().weight
    return sum(w.numel() * w.element_size() for w in model.parameters() if w is not embeddings)


# --- the methods ----------------------------------------------------------------------------------------------------


def ours(task: Task, chosen: Sequence[int], size: int) -> list[list[int]]:
    prompts = [task.prompts[k] for k in chosen]
    prefix = shared_prefix(task.model, prompts)
    out = []
    for first in range(0, len(chosen), size):
        copiers = [Copier(task.tags, task.texts[k]) for k in chosen[first : first + size]]
        written = decode(task.model, prompts[first : first + size], copiers, prefix=prefix)
        out += [tokens for tokens, _ in written]
    return out


def told(task: Task, chosen: Sequence[int], size: int) -> list[list[int]]:
    """As ours, but the draft is the answer, which no tagger knows: the windows and the computing itself are left."""
    answers = {task.texts[k]: Copier(task.tags, task.texts[k]).write(task.entities[k]) for k in chosen}
    with drafting(lambda row, length: answers[row.copier.text][len(row.tokens) :][:length]):
        return ours(task, chosen, size)


def repeating(task: Task, chosen: Sequence[int], size: int) -> list[list[int]]:
    """As ours, but the draft is what followed the longest suffix of all tokens where it last stood before."""
    prompts = {task.texts[k]: task.prompts[k] for k in chosen}
    with drafting(lambda row, _: _followed([*prompts[row.copier.text], *row.tokens])):
        return ours(task, chosen, size)


def drafting(source: Callable[[Any, int], Sequence[int]]) -> Any:
    """While this is open, drafts come from elsewhere: `source` names the next tokens of a row, at most so many.

    A draft ends where the automaton does not allow it, and one more place is asked than is drafted.
    """

    def draft(row: Any, way: Sequence[int], length: int) -> list[tuple[int, dict]]:
        places, node = [], row.node
        for token in [*way, *source(row, length)[len(way) :], None]:
            if not (allowed := row.copier.steps(node)):
                break
            places.append((token if token in allowed else next(iter(allowed)), allowed))
            if token not in allowed:
                break
            node = allowed[token]
        return places

    return mock.patch.object(copying, "_draft", draft)


def _followed(tokens: Sequence[int]) -> Sequence[int]:
    longest, at = 0, 0
    for k in range(len(tokens) - 2, -1, -1):
        n = 0
        while n < min(SUFFIX, k + 1) and tokens[k - n] == tokens[-1 - n]:
            n += 1
        if n > longest:
            longest, at = n, k + 1
    return tokens[at : at + AHEAD] if longest else []


def constrained(task: Task, chosen: Sequence[int], size: int, **options: Any) -> list[list[int]]:
    """`generate` with our automaton as its `prefix_allowed_tokens_fn`."""
    return [row for k in range(0, len(chosen), size) for row in _constrained(task, chosen[k : k + size], **options)]


def _constrained(task: Task, chosen: Sequence[int], **options: Any) -> list[list[int]]:
    copiers = [Copier(task.tags, task.texts[k]) for k in chosen]
    longest, nodes = max(len(task.prompts[k]) for k in chosen), {}

    def allowed(row: int, ids: torch.Tensor) -> list[int]:
        written = tuple(ids[longest:].tolist())  # of drafts that are tried and rejected, too
        before = nodes.get((row, written[:-1]))
        node = before and copiers[row].steps(before).get(written[-1]) if written else copiers[row].start
        nodes[row, written] = node
        return list(copiers[row].steps(node)) or [1] if node else [1]

    most_tokens = 4 * max(len(c.write([])) for c in copiers) + 16
    return _generate(task, chosen, prefix_allowed_tokens_fn=allowed, max_new_tokens=most_tokens, **options)


def _generate(task: Task, chosen: Sequence[int], **options: Any) -> list[list[int]]:
    """Hugging Face's greedy `generate`, left-padded."""
    prompts = [task.prompts[k] for k in chosen]
    longest = max(map(len, prompts))
    ids = torch.tensor([[1] * (longest - len(p)) + list(p) for p in prompts], device=task.model.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=task.model.device)
    out = task.model.generate(ids, attention_mask=mask, do_sample=False, pad_token_id=1, eos_token_id=1, **options)
    rows = [row[longest:].tolist() for row in out]
    return [row[: row.index(1)] if 1 in row else row for row in rows]


@torch.inference_mode()
def classified(task: Task, chosen: Sequence[int], size: int) -> list[list[int]]:
    """One pass a batch, the note alone without a prompt; its labels are random and nothing comes of them."""
    for first in range(0, len(chosen), size):
        texts = [task.tags.encode(task.texts[k]) for k in chosen[first : first + size]]
        longest = max(map(len, texts))
        ids = torch.tensor([[*t, *[1] * (longest - len(t))] for t in texts], device=task.model.device)
        mask = torch.tensor([[1] * len(t) + [0] * (longest - len(t)) for t in texts], device=task.model.device)
        task.classifier(input_ids=ids, attention_mask=mask, use_cache=False).logits.argmax(-1).tolist()
    return []


METHODS: dict[str, Callable[..., list[list[int]]]] = {
    CONSTRAINED: constrained,
    LOOKUP: partial(constrained, prompt_lookup_num_tokens=AHEAD),
    REPEATING: repeating,
    OURS: ours,
    TOLD: told,
    CLASSIFIER: classified,
}


# --- the model ------------------------------------------------------------------------------------------------------


def tokenizer_of(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE like Llama 3's, trained on these texts: it merges characters, splits rare ones, and has `<d`."""
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


def llama(hidden: int, layers: int, vocabulary: int) -> LlamaConfig:
    """A small Llama, with heads of 64 and a quarter as many for keys and values."""
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, num_key_value_heads=max(hidden // 256, 1), max_position_embeddings=4096,
        bos_token_id=0, eos_token_id=1, pad_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip


def random_model(config: LlamaConfig, dtype: torch.dtype) -> LlamaForCausalLM:
    """Made on the device itself, so that an 8B needs no memory of the machine."""
    torch.manual_seed(0)
    with this_device():
        return LlamaForCausalLM._from_config(config, dtype=dtype).eval()


def with_labels(model: Any) -> LlamaForTokenClassification:
    """A token classifier for O, B and I on the same layers."""
    config = LlamaConfig(**model.config.to_dict() | {"num_hidden_layers": 0, "vocab_size": 2, "pad_token_id": None})
    config.num_labels = 3
    with model.device:
        classifier = LlamaForTokenClassification._from_config(config, dtype=model.dtype).eval()
    classifier.model = model.model
    return classifier


def teach(model: Any, tags: TagTokens, lines: Sequence[Line], prompts: Sequence[Sequence[int]]) -> None:
    """Fit the output layer so that the model tags these lines as annotated; everything before it stays random.

    Cross-entropy over what the automaton allows at every place of the annotated answer: a convex problem in the rows of
    the tokens that are allowed anywhere. It makes a model that has learned these lines by heart, with as many entities
    a line as annotators set; it costs as much time as any other model of this shape.
    """
    states, allowed, right = _places(model, tags, lines, prompts)
    states = states.float()
    known = sorted({token for tokens in allowed for token in tokens})
    row = {token: k for k, token in enumerate(known)}
    most = max(map(len, allowed))
    rows = torch.tensor([[row[t] for t in a] + [-1] * (most - len(a)) for a in allowed], device=model.device)
    target = torch.tensor([a.index(t) for a, t in zip(allowed, right, strict=True)], device=model.device)
    head = model.get_output_embeddings().weight
    weight = head[known].detach().float().clone().requires_grad_()
    fit = torch.optim.LBFGS([weight], max_iter=50, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        fit.zero_grad()
        logits = (states @ weight.T).gather(1, rows.clamp(min=0)).masked_fill(rows < 0, float("-inf"))
        loss = torch.nn.functional.cross_entropy(logits, target)
        loss.backward()
        return loss

    fit.step(step)
    with torch.no_grad():
        head[known] = weight.to(head.dtype)


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
    device = task.model.device
    hook = task.model.get_decoder().register_forward_hook(lambda *_: passes.append(1))
    try:
        with Memory(device) as memory:
            begin = clock(device)
            out = method(task, chosen, size)
            seconds = clock(device) - begin
    finally:
        hook.remove()
    return out, seconds, len(passes), memory.extra
