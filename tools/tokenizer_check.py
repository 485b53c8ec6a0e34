"""Can a tokenizer carry the gold? Entities -> labels or tagged tokens -> entities, with no model in between.

What is lost here no training can win back, so it is worth a look before one, above all for notes of one's own. An
encoder loses an entity that begins or ends inside a piece; a language model that copies under constraint loses none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nbutils.corpus import Corpus, Document, entities_within, sentence_spans
from nbutils.corpus.formats import read_corpus
from nbutils.files import DataError
from nbutils.taggers.bio import bio_labels, bio_to_entities, entities_to_bio
from nbutils.taggers.offsets import encode_with_offsets

FORMATS = {".csv": "jmed", ".jsonl": "jsonl", ".xml": "medtxt", "": "medtxt"}


@dataclass(frozen=True)
class RoundTrip:
    """How the gold entities of a corpus came back from a tokenizer."""

    entities: int
    exact: int
    cut: int  # not exact, since a piece of the tokenizer reaches over the entity's boundary
    lost: int  # not exact for any other reason: an error of ours
    spurious: int  # came back and are not gold
    merged: int  # gold entities with a boundary inside a token of the whole text
    tokens: int
    characters: int

    @property
    def cut_rate(self) -> float:
        return self.cut / self.entities if self.entities else 0.0

    @property
    def f1(self) -> float:
        """Exact F1, in percent, of a model that makes no mistake."""
        found = self.exact + self.spurious
        return 200 * self.exact / (self.entities + found) if self.entities + found else 100.0


def bio_round_trip(corpus: Corpus, tokenizer: Any, unit: str = "sentence", labels: Sequence[str] = ("d",)) -> RoundTrip:
    """Entities -> BIO labels on pieces -> entities, as the encoder is trained and read."""
    one_hot = np.log(np.eye(len(bio_labels(labels))) + 1e-9)

    def carry(text: str, gold: list) -> list:
        _, offsets = encode_with_offsets(tokenizer, text)
        return bio_to_entities(one_hot[entities_to_bio(gold, offsets, labels)], offsets, labels)

    return _round_trip(corpus, tokenizer, unit, carry)


def copy_round_trip(
    corpus: Corpus, tokenizer: Any, unit: str = "sentence", labels: Sequence[str] = ("d",)
) -> RoundTrip:
    """Entities -> the training target -> every token of it allowed by the decoder's automaton -> entities.

    Raises:
        ValueError: a token of a training target is not among those that decoding allows in its place.
    """
    from nbutils.taggers.copying.decode import Copier, TagTokens

    tags = TagTokens(tokenizer, labels)

    def carry(text: str, gold: list) -> list:
        copier = Copier(tags, text)
        target = copier.write(gold)
        node = copier.start
        for k, token in enumerate(target):
            allowed = copier.steps(node)
            if token not in allowed:
                raise ValueError(f"token {k} of a training target is not allowed in decoding")
            node = allowed[token]
        if not copier.finished(node):
            raise ValueError("a training target ends before decoding does")
        return copier.read(target)

    return _round_trip(corpus, tokenizer, unit, carry)


def _round_trip(corpus: Corpus, tokenizer: Any, unit: str, carry: Any) -> RoundTrip:
    entities = exact = cut = spurious = merged = tokens = 0
    for text, gold in _units(corpus.documents, unit):
        _, offsets = encode_with_offsets(tokenizer, text)
        tokens += len(offsets)
        back = {e.key for e in carry(text, gold)}
        for entity in gold:
            inside = any(start < at < end for start, end in offsets for at in (entity.start, entity.end))
            entities += 1
            merged += inside
            exact += entity.key in back
            cut += inside and entity.key not in back
        spurious += len(back - {e.key for e in gold})
    characters = sum(end - start for d in corpus for start, end in sentence_spans(d, unit))
    return RoundTrip(entities, exact, cut, entities - exact - cut, spurious, merged, tokens, characters)


def _units(documents: Sequence[Document], unit: str):
    for document in documents:
        for start, end in sentence_spans(document, unit):
            yield document.text[start:end], entities_within(document, start, end)


def load_tokenizer(folder: str | Path) -> Any:
    """A tokenizer from a model folder, from the hub, or from a bare `tokenizer.model` in tiktoken's form (Llama 3)."""
    path = Path(folder)
    if path.name == "tokenizer.model" or (path.is_dir() and {p.name for p in path.iterdir()} == {"tokenizer.model"}):
        return _from_tiktoken(path if path.is_file() else path / "tokenizer.model")
    from nbutils.taggers import models

    return models.load_tokenizer(folder)


def _from_tiktoken(path: Path) -> Any:
    """Read by transformers' converter; the file's own form (base64 and rank) is read here, without tiktoken."""
    import base64

    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    class Converter(TikTokenConverter):
        @staticmethod
        def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
            lines = Path(tiktoken_url).read_bytes().splitlines()
            return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}

    return PreTrainedTokenizerFast(tokenizer_object=Converter(vocab_file=str(path)).converted())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print how many gold entities of each corpus a tokenizer carries."""
    parser = argparse.ArgumentParser(prog="python -m tools.tokenizer_check", description=main.__doc__)
    parser.add_argument("way", choices=["bio", "copy"], help="labels on pieces (encoders) or tagged text (LLMs)")
    parser.add_argument("tokenizer", help="a model folder, a tokenizer.model of Llama 3, or a name on the hub")
    parser.add_argument("corpora", nargs="+", help="files or folders: .xml (MedTxt), .csv (JMED-LLM), .jsonl")
    parser.add_argument("--unit", default="sentence", choices=["sentence", "note"])
    chosen = parser.parse_args(arguments)
    trip = bio_round_trip if chosen.way == "bio" else copy_round_trip
    lost = 0
    try:
        tokenizer = load_tokenizer(chosen.tokenizer)
        columns = [("corpus", "<12"), ("entities", ">9"), ("exact", ">8"), ("cut", ">6"), ("rate (%)", ">10"),
                   ("lost", ">6"), ("F1", ">8"), ("tokens/char", ">13")]  # fmt: skip
        print("".join(format(name, width) for name, width in columns))
        for path in map(Path, chosen.corpora):
            if path.suffix not in FORMATS:
                raise DataError(f"{path}: use a file that ends in {', '.join(s for s in FORMATS if s)}, or a folder")
            r = trip(read_corpus(path, FORMATS[path.suffix]), tokenizer, chosen.unit)
            lost += r.lost
            print(
                f"{path.stem:<12}{r.entities:>9}{r.exact:>8}{r.cut:>6}{100 * r.cut_rate:>10.2f}{r.lost:>6}{r.f1:>8.2f}"
                f"{r.tokens / max(r.characters, 1):>13.2f}"
            )
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
