"""YAML read strictly: the values of a study file, the line of each, and everything that is wrong with them.

Keys and plain words are kept as they stand in the file, so that a corpus may be called NO, 2024 or 1e5.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from nbutils.files import DataError, text_of
from nbutils.taggers.settings import nearest, problems_of

MAX_BYTES = 200_000
MAX_VALUES = 20_000  # an alias counts as often as it is used
MAX_SHOWN = 20  # problems
BOOLEANS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}  # of YAML 1.1
NULLS = ("", "~", "null", "Null", "NULL")
MERGE = "tag:yaml.org,2002:merge"
KINDS = ("null", "bool", "int", "float", "str", "timestamp", "value", "merge", "seq", "map")
TAGS = {f"tag:yaml.org,2002:{kind}" for kind in KINDS}
_INTEGER = re.compile(r"[-+]?(0|[1-9][\d_]{0,17})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?", re.ASCII)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

Place = tuple[Any, ...]  # keys and list positions, from the top of the file
Made = TypeVar("Made")


class Source:
    """A YAML file: its values, and the problems that were noticed in it so far."""

    def __init__(self, path: Path):
        """Read the file.

        Raises:
            DataError: it is no file of reasonable size, or not YAML.
        """
        self.path = path
        self._lines: dict[Place, int] = {}
        self._visits = 0
        self._plain: dict[Place, str] = {}  # values without quotes, as they stand in the file
        self._problems: list[tuple[int, str]] = []
        try:
            self.values = self._value(_composed(path), ())
        except RecursionError:
            raise DataError(f"{path}: nested too deeply for a study; correct the file") from None

    def _value(self, node: yaml.Node, place: Place) -> Any:
        line = node.start_mark.line + 1
        self._visits += 1
        if self._visits > MAX_VALUES:
            raise DataError(f"{self.path}, line {line}: more than {MAX_VALUES:,} values; write fewer aliases (*name)")
        self._lines.setdefault(place, line)
        if node.tag not in TAGS:
            self.problem(place, f"the tag {node.tag} means nothing in a study; take it out")
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*place, k)) for k, item in enumerate(node.value)]
        return self._mapping(node, place) if isinstance(node, yaml.MappingNode) else self._scalar(node, place)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in sorted(node.value, key=lambda pair: pair[0].tag != MERGE):
            line, key = key_node.start_mark.line + 1, key_node.value
            if key_node.tag == MERGE:  # <<: *base
                bases = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                merged |= {k: v for b in reversed(bases) for k, v in self.mapping(self._value(b, place), place).items()}
            elif not isinstance(key_node, yaml.ScalarNode):
                self.problem(place, f"line {line} has a list or a mapping as a key; write a name")
            elif key in own:
                twice = f'the key "{key}" stands already in line {self._lines[*place, key]}; remove one'
                self._problems.append((line, f"{_dotted(place)}{twice}"))
            else:
                self._lines[*place, key] = line
                self._plain.pop((*place, key), None)  # of a merged one
                own[key] = self._value(value_node, (*place, key))
        return merged | own

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        text = node.value
        if _CONTROL.search(text):
            self.problem(place, "holds a control character; take it out")
        if node.style is not None:  # quoted
            return text
        self._plain[place] = text
        if text in NULLS:
            return None
        if text.lower() in BOOLEANS:
            return BOOLEANS[text.lower()]
        if _INTEGER.fullmatch(text):
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) else text

    def problem(self, place: Place, sentence: str) -> None:
        """Note what is wrong at a place."""
        nearby = next(place[:n] for n in range(len(place), -1, -1) if place[:n] in self._lines or n == 0)
        self._problems.append((self._lines.get(nearby, 1), f"{_dotted(place)}{sentence}"))

    def known(self, place: Place, what: str, name: str, names: Collection[str]) -> bool:
        """Whether there is a corpus or system of this name; it is a problem if not."""
        if name not in names:
            self.problem(place, f'no {what} "{name}"{nearest(name, names)}')
        return name in names

    def refuse_problems(self) -> None:
        """Tell all problems that were noticed, in the order of their lines.

        Raises:
            DataError: there is one at least.
        """
        lines = [f"{self.path}, line {line}, {sentence}" for line, sentence in sorted(dict.fromkeys(self._problems))]
        if hidden := len(lines) - MAX_SHOWN:
            lines[MAX_SHOWN:] = [f"{self.path}: and {hidden} more problems"] if hidden > 0 else []
        if lines:
            raise DataError("\n".join(lines))

    def mapping(self, raw: Any, place: Place, *, least: int = 0) -> dict[str, Any]:
        """The value at a place if it is a mapping with as many keys; else an empty one, and the problem is noted."""
        if raw is None and not least:  # `crf:` alone
            return {}
        if isinstance(raw, dict) and len(raw) >= least:
            return raw
        self.problem(place, "a mapping (key: value) is needed")
        return {}

    def made(
        self,
        kind: type[Made],
        values: Any,
        place: Place,
        *,
        besides: Iterable[str] = (),
        hidden: Iterable[str] = (),
        given: Mapping[str, Any] | None = None,
    ) -> Made | None:
        """A dataclass of these values; None when there are problems, which are noted.

        Where text is wanted, a word without quotes is the text that stands in the file; `values` are changed so.

        Args:
            besides: keys that may stand at the place too, for the advice.
            hidden: fields that are no keys of the file.
            given: fields that do not come from the file.
        """
        if not isinstance(values, dict):
            self.problem(place, "a mapping (key: value) is needed")
            return None
        for key in sorted(values.keys() & set(hidden)):
            known = {*kind.__dataclass_fields__, *besides} - set(hidden)
            self.problem((*place, key), f'unknown key "{key}"{nearest(key, known)}')
            values.pop(key)
        while True:
            try:
                return kind(**values, **(given or {}))
            except ValidationError as error:
                words = [e["loc"] for e in error.errors() if self._is_word(e, place)]
                if not words:
                    for loc, sentence in problems_of(error, kind, besides, hidden):
                        self.problem((*place, *loc), sentence)
                    return None
                for *above, key in words:
                    inner: Any = values
                    for step in above:
                        inner = inner[step]
                    inner[key] = self._plain[*place, *above, key]

    def _is_word(self, error: Any, place: Place) -> bool:
        """Whether text is wanted and a word stands there; null is one in a list of names only."""
        wanted = error["type"] == "string_type" and (error["input"] is not None or isinstance(error["loc"][-1], int))
        return wanted and (*place, *error["loc"]) in self._plain


def _composed(path: Path) -> yaml.Node:
    if (size := path.stat().st_size) > MAX_BYTES:
        raise DataError(f"{path}: {size:,} bytes are too many for a study file, which may have {MAX_BYTES:,}")
    text = text_of(path)
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark, position = getattr(error, "problem_mark", None), getattr(error, "position", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        if isinstance(position, int):  # a character that YAML forbids
            where = f", line {text.count(chr(10), 0, position) + 1}"
        raise DataError(f"{path}{where}: not YAML; correct the file") from None
    if node is None:
        raise DataError(f"{path}: a mapping (key: value) is needed; the file says nothing")
    return node


def _dotted(place: Place) -> str:
    return f"{'.'.join(map(str, place))}: " if place else ""
