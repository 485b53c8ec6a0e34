"""A JSON Schema of study files, with which editors complete keys and underline mistakes: `make schema`."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from nbutils import ROOT
from nbutils.files import write_whole
from nbutils.study.file import Study
from nbutils.taggers import KINDS
from nbutils.taggers.settings import FILLED_IN, TINY

PATH = ROOT / "studies" / "schema.json"  # named in the first line of each study file beside it


def schema() -> dict[str, Any]:
    """The schema of a study file: that of `Study`, with the settings of each kind of system in their places."""
    whole = TypeAdapter(Study).json_schema()
    parts, fields = whole["$defs"], whole["properties"]
    del fields["name"], fields["path"]
    whole |= {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A study",
        "required": ["corpora", "systems"],
    }
    row = {key: parts["System"]["properties"][key] for key in ("title", "seeds")}
    for kind, about in KINDS.items():
        settings = TypeAdapter(about.settings).json_schema()
        known = {key: value for key, value in settings["properties"].items() if key not in FILLED_IN}
        parts[kind] = settings | {"type": ["object", "null"], "properties": {"kind": {"const": kind}} | row | known}
    by_name = {kind: _of_its_kind(kind) for kind in KINDS}
    fields["systems"] |= {"properties": by_name, "additionalProperties": _of_its_kind(None)}
    fields["tiny"] |= {"properties": {kind: TypeAdapter(of).json_schema() for kind, of in TINY.items()},
                       "additionalProperties": False}  # fmt: skip
    del parts["System"]
    return whole


def _of_its_kind(name: str | None) -> dict[str, Any]:
    """A system with a `kind`, or, when its name is that of a kind, one without."""
    named = [{"if": {"required": ["kind"], "properties": {"kind": {"const": kind}}},
              "then": {"$ref": f"#/$defs/{kind}"}} for kind in KINDS]  # fmt: skip
    with_kind = {"required": ["kind"], "properties": {"kind": {"enum": list(KINDS)}}, "allOf": named}
    if name is None:
        return with_kind
    return {"if": {"type": "object", "required": ["kind"]}, "then": with_kind, "else": {"$ref": f"#/$defs/{name}"}}


def text() -> str:
    """The schema as it stands in the file."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_whole(PATH, text())
    print(PATH.relative_to(ROOT))
