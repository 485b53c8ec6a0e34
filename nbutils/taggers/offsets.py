"""From a tokenizer's pieces to characters of the unchanged text, whatever the tokenizer does to it.

Fast tokenizers report offsets. Slow ones do not, and `BertJapaneseTokenizer` silently ignores the request and
normalises (NFKC) before it cuts; for these the pieces are matched, in order, against the text normalised character
by character, so that every piece comes back with a span of the original.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import zip_longest
from typing import Any

Span = tuple[int, int]
Encoded = tuple[list[int], list[Span]]  # ids of pieces, and the characters that each stands for

_UNSPEAKABLE = re.compile("[\0\ud800-\udfff]")  # MeCab stops at a NUL; UTF-8 has no lone surrogates


def encode_with_offsets(tokenizer: Any, text: str) -> Encoded:
    """Piece ids (no special tokens) and their (start, end) in `text`; pieces of one character share its span.

    Neither starts nor ends run backwards. Characters that the tokenizer drops (spaces, control characters) belong to
    no piece, but a combining mark belongs to its base. A note is data: what looks like a special token in it
    ("[SEP]", "<|eot_id|>") is read as the characters that it is.
    """
    text = speakable(text)
    if tokenizer.is_fast:
        encoded = tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            truncation=False,
            verbose=False,
        )
        return list(encoded["input_ids"]), _with_marks(text, encoded["offset_mapping"])
    pieces = _slow_pieces(tokenizer, text)
    ids = tokenizer.convert_tokens_to_ids([piece for piece, _ in pieces])
    return list(ids), [span for _, span in pieces]


def special_ids(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a single text, such as [CLS] and [SEP]."""
    ids = list(tokenizer("", add_special_tokens=True)["input_ids"])
    before = 0 if not ids or ids[0] == tokenizer.eos_token_id else len(ids) - len(ids) // 2
    return ids[:before], ids[before:]


def speakable(text: str) -> str:
    """The text with U+FFFD, character for character, for what tokenizers choke on: NUL and lone surrogates."""
    return _UNSPEAKABLE.sub("\ufffd", text)


def _with_marks(text: str, offsets: Sequence[Span]) -> list[Span]:
    """Offsets that do not fall, stretched over marks that the tokenizer composed into a piece or dropped (ｶﾞ → ガ)."""
    spans: list[Span] = []
    start = end = 0
    for piece_start, piece_end in offsets:
        start, end = max(start, piece_start), max(end, piece_start, piece_end)
        spans.append((start, end))
    free = len(text)  # up to here no later piece covers the text
    for k in range(len(spans) - 1, -1, -1):
        start, end = spans[k]
        if k + 1 < len(spans) and offsets[k + 1][1] > end:
            free = max(end, offsets[k + 1][0])
        stop = end
        while start < end and stop < free and _joins(text[start:stop], text[stop]):
            stop += 1
        spans[k] = (start, stop)
    return spans


def _slow_pieces(tokenizer: Any, text: str) -> list[tuple[str, Span]]:
    stream, sources = normalised_stream(text)
    words = getattr(tokenizer, "word_tokenizer", None)
    split = getattr(tokenizer, "subword_tokenizer", None)
    if words is None or split is None:  # any other slow tokenizer: its whole output is one "word"
        laid = _lay_pieces(tokenizer.tokenize(text), stream, (0, len(stream)), tokenizer.unk_token)
    else:
        laid = []
        surfaces = words.tokenize(text)
        for surface, within in zip(surfaces, _lay(list(map(_key, surfaces)), stream, (0, len(stream))), strict=True):
            laid += _lay_pieces(split.tokenize(surface), stream, within, tokenizer.unk_token)
    pieces: list[tuple[str, Span]] = []
    last = (0, 0)
    for piece, (begin, stop) in laid:
        if begin < stop:
            last = (sources[begin][0], sources[stop - 1][1])
        elif begin == len(stream) or sources[begin][0] >= last[1]:
            last = (last[1], last[1])  # nothing of its own
        pieces.append((piece, last))
    return pieces


def _lay_pieces(pieces: list[str], stream: str, within: Span, unknown: str | None) -> list[tuple[str, Span]]:
    bare = [piece.removeprefix("##") if k else piece for k, piece in enumerate(pieces)]
    keys = [None if piece == unknown else _key(piece.removesuffix("</w>")) for piece in bare]
    return list(zip(pieces, _lay(keys, stream, within), strict=True))


def _lay(keys: Sequence[str | None], stream: str, within: Span) -> list[Span]:
    """Lay normalised pieces, in order, over a stretch of the normalised text; where each begins and stops.

    Of neighbouring unknown pieces (None) each takes one character and the last what is left before the next known
    piece. A piece that the tokenizer altered takes as many characters as it has itself.
    """
    spans: list[Span] = []
    at, end = within
    for key, following in zip_longest(keys, keys[1:], fillvalue=""):
        if key is None:
            stop = end
            if following is None:
                stop = min(at + 1, end)
            elif following and (place := stream.find(following, at + 1, end)) >= 0:
                stop = place
        else:
            while at < end and not stream.startswith(key, at, end) and _is_dropped(stream[at]):
                at += 1
            stop = min(at + len(key), end)
        spans.append((at, stop))
        at = stop
    return spans


def _is_dropped(character: str) -> bool:
    """Whether tokenizers are known to drop it: control, format and unassigned characters, marks, U+FFFD."""
    return unicodedata.category(character)[0] in "CM" or character == "\ufffd"


@lru_cache(maxsize=1 << 16)  # a vocabulary's worth: words and pieces come again and again
def _key(piece: str) -> str:
    return normalised_stream(piece)[0]


def normalised_stream(text: str) -> tuple[str, list[Span]]:
    """The text under NFKC and case folding, without white space, and for each character the span it came from.

    Normalisation works on clusters (a base with its combining and half-width voicing marks), as NFKC never composes
    across a starter that does not join; Hangul jamo and other starters that do are clustered by trial.
    """
    out: list[str] = []
    spans: list[Span] = []
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and _joins(text[start:end], text[end]):
            end += 1
        for character in unicodedata.normalize("NFKC", text[start:end]).casefold():
            if not character.isspace() and character != "▁":  # sentencepiece's space
                out.append(character)
                spans.append((start, end))
        start = end
    return "".join(out), spans


def _joins(cluster: str, character: str) -> bool:
    """Whether a character belongs to the cluster before it: a mark, a zero-width joiner, or what NFKC composes."""
    if character < "\u0300":
        return False
    nfkc = unicodedata.normalize
    if character == "\u200d" or unicodedata.category(nfkc("NFKD", character)[0])[0] == "M":
        return True
    return nfkc("NFKC", cluster + character) != nfkc("NFKC", cluster) + nfkc("NFKC", character)
