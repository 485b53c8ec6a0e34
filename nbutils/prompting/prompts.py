"""What a language model is asked: guideline, example notes, instruction, text, filled into a file under prompts/."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from nbutils.corpus import Document, entities_within, sentence_spans
from nbutils.prompting import markup
from nbutils.taggers.settings import IclSettings, prompt_file

TAG_TOKENS = 64  # tokens of an answer for tags and a remark, besides those for the text

# What a prompt is made of: plain text, or a note that is to be written with its entities tagged.
Prompt = tuple[str | Document, ...]


HINT = "病名の辞書にある語のうち、次のテキストに現れるもの（参考）：{}\n\n"


def build_prompt(name: str, shots: Sequence[Document], text: str, hints: Sequence[str] = ()) -> Prompt:
    """The prompt file filled in, `hints` (terms of a dictionary that the text holds) behind the examples.

    Each place is filled once, so that a note holding "{text}" stays what it is.

    Source: Textbox 1 of the paper (guideline, examples, instruction, text); the guideline is that of data/GUIDELINE.md.
    """
    examples: list[str | Document] = []
    for shot in shots:
        examples += _filled(f"{name}_example", {"text": [shot.text], "annotation": [shot]})
    examples += [HINT.format("、".join(hints))] if hints else []
    return tuple(_filled(name, {"examples": examples, "text": [text]}))


def _filled(name: str, values: dict[str, list[str | Document]]) -> list[str | Document]:
    template = prompt_file(name)
    if not name.endswith("_example"):
        template = template.removesuffix("\n")
    parts: list[str | Document] = []
    for part in re.split(r"(\{[a-z]+\})", template):
        parts += values[part[1:-1]] if part[1:-1] in values and part.startswith("{") else [part]
    return [part for part in parts if part != ""]


def prompt_string(prompt: Prompt) -> str:
    """The prompt as one string, its example notes with inline tags."""
    return "".join(part if isinstance(part, str) else markup.write(part.text, part.entities) for part in prompt)


def answer_limit(text: str, settings: IclSettings) -> int:
    """Tokens that an answer may have: for the text, and for tags."""
    return math.ceil(settings.tokens_per_character * len(text)) + TAG_TOKENS


def shortened(document: Document, characters: int | None) -> Document:
    """The document, or the first stretch of whole lines of it with an entity that is not longer than `characters`."""
    if characters is None or len(document.text) <= characters:
        return document
    spans = sentence_spans(document)
    best = min(range(len(spans)), key=lambda k: (not entities_within(document, *spans[k]) or
                                                 spans[k][1] - spans[k][0] > characters, k))  # fmt: skip
    start, end = spans[best]
    for _, further in spans[best + 1 :]:
        if further - start > characters:
            break
        end = further
    return replace(document, text=document.text[start:end], entities=tuple(entities_within(document, start, end)))
