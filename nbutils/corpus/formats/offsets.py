"""What the offsets of a file count: code points or UTF-16 code units, and CRLF as two characters or as one.

Tools that run in a browser count UTF-16 code units in some versions and code points in others (Label Studio's issue
1347 and its later change, doccano's issue 2290), and those that normalise line ends count CRLF as one (doccano's issue
2114). The ways are named as in a study file: `codepoints`, `utf16`, `codepoints-lf`, `utf16-lf`.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Callable, Iterable

from nbutils.files import Fault

MEANINGS = {
    "codepoints": "code points",
    "utf16": "UTF-16 code units",
    "codepoints-lf": "code points where CRLF counts as one",
    "utf16-lf": "UTF-16 code units where CRLF counts as one",
}


def offset_reader(text: str, offsets: str | None) -> Callable[[int], int]:
    """From a file's offsets to code points; an offset in the middle of a character or of a CRLF becomes −1."""
    wide, one_line_end = "utf16" in (offsets or ""), "-lf" in (offsets or "")
    if not (wide and has_wide_characters(text)) and not (one_line_end and "\r\n" in text):
        return lambda offset: offset
    place, unit = {}, 0
    for k, character in enumerate(text):
        if one_line_end and character == "\n" and k and text[k - 1] == "\r":
            continue
        place[unit] = k
        unit += 1 + (wide and ord(character) > 0xFFFF)
    place[unit] = len(text)
    return lambda offset: place.get(offset, -1 if offset <= unit else len(text) + 1)


def has_wide_characters(text: str) -> bool:
    """Whether code points and UTF-16 code units count this text differently (emoji, 𠮷 and the like)."""
    return any(ord(character) > 0xFFFF for character in text)


def check_declared(text: str, spans: Iterable[tuple[int, int, str | None]], offsets: str | None, where: str) -> None:
    """Refuse to guess what offsets count, where it makes a difference for these spans (start, end, quoted text).

    Raises:
        Fault: nothing is declared, and the text has wide characters or CRLF before the end of a span. Where the spans
            allow one way only, the sentence names it.
    """
    spans = list(spans)
    before = text[: max((end for _, end, _ in spans), default=0) + 1]
    wide, crlf = has_wide_characters(before), "\r\n" in before
    if offsets is not None or not (wide or crlf):
        return
    ways = [w for w in MEANINGS if wide or "utf16" not in w]
    ways = [w for w in ways if crlf or "-lf" not in w]
    fitting = [w for w in ways if _all_fit(text, spans, w)]
    what = " and ".join(["characters such as emoji"] * wide + ["line ends of Windows (CRLF)"] * crlf)
    likely = f" (only {fitting[0]} fits all entities here)" if len(fitting) == 1 else ""
    raise Fault(
        where,
        f"the text has {what}, which some versions of the tool count as one and some as two{likely}",
        f"say {' or '.join(f'`offsets: {w}`' for w in ways)} in the study file",
    )


def _all_fit(text: str, spans: list[tuple[int, int, str | None]], way: str) -> bool:
    to_code_points = offset_reader(text, way)
    for start, end, quoted in spans:
        a, b = to_code_points(start), to_code_points(end)
        if not 0 <= a < b <= len(text) or (quoted is not None and not same_words(text[a:b], quoted)):
            return False
        if text[a].isspace() or text[b - 1].isspace():
            return False
    return True


def same_words(a: str, b: str) -> bool:
    """Whether two texts differ in white space at most: tools quote a line break as a blank, as `\\n`, or not at all."""
    return a == b or _words(a) == _words(b)


def _words(text: str) -> str:
    return "".join(text.replace("\\n", "\n").split())


def why_shifted(quoted: str | None, given: list[tuple[int, int]], text: str) -> str:
    """The usual causes of an entity that quotes another text, where one explains it; "" where none does."""
    if quoted is None:
        return ""
    here = " ".join(text[max(start, 0) : max(end, 0)] for start, end in given)
    if same_words(*(unicodedata.normalize("NFC", t) for t in (here, quoted))):
        return (
            "its offsets are right: text and quote are the same but for Unicode normalisation (NFC, NFD), so one file "
            "was normalised without the other; write the quote as the note has it"
        )
    if same_words(here, html.unescape(quoted)):
        return (
            "its offsets are right: the quote is HTML-escaped (&lt; for <); export it without escaping, or replace the "
            "escapes in the quotes"
        )
    for way, meaning in MEANINGS.items():
        to_code_points = offset_reader(text, way)
        if _quotes(text, [(to_code_points(start), to_code_points(end)) for start, end in given], quoted):
            return f"its offsets fit as {meaning}: say `offsets: {way}` in the study file"
    for form in ("NFC", "NFD"):
        if _quotes(unicodedata.normalize(form, text), given, quoted):
            return f"its offsets fit another Unicode normalisation of the note: save the note in {form}"
    if _quotes(text, [(start - 1, end - 1) for start, end in given], quoted):
        return (
            "its offsets fit if the file's byte-order mark counts, or if they begin at 1: save the note without the "
            "mark, or correct them"
        )
    return ""


def _quotes(text: str, spans: list[tuple[int, int]], quoted: str) -> bool:
    inside = all(0 <= start < end <= len(text) for start, end in spans)
    return inside and same_words(" ".join(text[start:end] for start, end in spans), quoted)
