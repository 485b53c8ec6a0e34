"""Small exports of other tools, written on the spot, and the sentence with which a file is refused."""

import json

import pytest

from nbutils.corpus.formats import read_corpus
from nbutils.files import DataError


def written(folder, name, content):
    """A file with this text, these bytes, or this as JSON."""
    path = folder / name
    if not isinstance(content, str | bytes):
        content = json.dumps(content, ensure_ascii=False)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def brat(folder, ann, text="発熱と咳嗽あり。\n", name="1", encoding="utf-8"):
    """A folder with one brat note."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.txt").write_bytes(text.encode(encoding))
    (folder / f"{name}.ann").write_bytes(ann.encode(encoding))
    return folder


def task(text, *spans, kind="labels", **more):
    """A Label Studio task with spans (start, end, quoted text or None)."""
    result = [
        {"id": f"r{k}", "type": kind, "from_name": "label", "to_name": "text",
         "value": {"start": a, "end": b, kind: ["d"]} | ({"text": quoted} if quoted else {})}
        for k, (a, b, quoted) in enumerate(spans)
    ]  # fmt: skip
    return {
        "id": 1,
        "data": {"text": text, "case": "c1"},
        "annotations": [{"result": result}],
        "predictions": [],
    } | more


def lines(*rows):
    """JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def medtxt(*bodies):
    """MedTxt XML with an article for each body."""
    articles = "".join(f'<article id="{k}">{body}</article>' for k, body in enumerate(bodies, 1))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<root><articles>\n{articles}</articles></root>\n'


def refused(path, format="medtxt", **how):
    """The one sentence with which a corpus is refused."""
    sentence = refused_whole(path, format, **how)
    assert "\n" not in sentence
    return sentence


def refused_whole(path, format="medtxt", **how):
    """All that is said about a corpus that is refused; it begins with the path."""
    with pytest.raises(DataError) as caught:
        read_corpus(path, format, **how)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


def spans(corpus):
    """Start and end of every entity of a corpus."""
    return [(e.start, e.end) for d in corpus for e in d.entities]


def surfaces(corpus):
    return [d.surface(e) for d in corpus for e in d.entities]
