"""Places in the annotation that look inconsistent and that only a reader can judge: a report, never a failure.

Strings that are tagged in one place and not in another, and certainties that the words around an entity seem to
contradict. Real corpora hold many of both; the number is what tells how even the annotation is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nbutils.corpus import Document, Entity, lines


@dataclass(frozen=True)
class Candidate:
    """A place that looks like an error of annotation, and why."""

    string: str
    document: str
    context: str
    why: str


def _context(document: Document, start: int, end: int, width: int = 12) -> str:
    left = document.text[max(0, start - width) : start].rpartition("\n")[2]
    right = document.text[end : end + width].partition("\n")[0]
    return f"{left}[{document.text[start:end]}]{right}"


# The name of a drug, a germ, a test, a procedure or an amount is no mention of the disease whose name it begins with.
NAMES_SOMETHING_ELSE = re.compile("術(?![後前中])|薬|菌|ウイルス|療法|量|培養|塗抹")
WORD_SCRIPTS = ("A-Za-zＡ-Ｚａ-ｚ", "ァ-ヺーｦ-ﾟ")  # a word in Latin letters or katakana is a whole run of them
PIECE_OF_A_WORD = re.compile("|".join(f"[{script}]{{2}}" for script in WORD_SCRIPTS))


def untagged_strings(documents: Sequence[Document]) -> list[Candidate]:
    """Places where a string of two or more characters stands untagged that is an entity somewhere else."""
    names = sorted({d.surface(e) for d in documents for e in d.entities}, key=lambda name: (-len(name), name))
    found = []
    for document in documents:
        text, taken = document.text, bytearray(len(document.text))
        for e in document.entities:
            taken[e.start : e.end] = b"\x01" * (e.end - e.start)
        for name in names:
            start = text.find(name) if len(name) > 1 else -1
            while start >= 0:
                end = start + len(name)
                if not any(taken[start:end]) and not _is_other_word(text, start, end):
                    taken[start:end] = b"\x01" * len(name)
                    why = "is an entity elsewhere and untagged here"
                    found.append(Candidate(name, document.id, _context(document, start, end), why))
                start = text.find(name, start + 1)
    return found


def _is_other_word(text: str, start: int, end: int) -> bool:
    joints = (text[max(start - 1, 0) : start + 1], text[end - 1 : end + 1])
    return any(map(PIECE_OF_A_WORD.fullmatch, joints)) or NAMES_SOMETHING_ELSE.match(text, end) is not None


# Cues are looked for in the line with every entity replaced by HOLE: "-" in an entity's name denies nothing.
HOLE = "\ue000"
DENIAL = (
    rf"\((?:-|－)\)|（(?:-|－)）|-(?=\s|[、，,。]|$)|[：:]?□(?!{HOLE})|n\.p|な(?:し|く(?!な)|い(?!し)|かっ)|ﾅｼ|無[しくい]"
    "|(?:あり|ござい)ません|否定|除外|陰性(?!化)|欠[いくき]|考え(?:にく|難)|unlikely"
)
DENYING_VERB = (
    "(?:認め|[見み]?られ|[見み]え|伴わ|生じ|来さ|起こさ|示さ|至ら|残さ|触れ|訴え"
    "|(?:指摘|聴取|検出|確認|描出)(?:でき|され|せ))(?:ず|な(?:い|く(?!な)|か)|ません)"
)
DOUBT = r"疑|うたがい|[?？]|[rs]/o|可能性|懸念|危惧"
# "A、BやCなし" denies A, too.
ALSO = f"(?:(?:[、，,・/／]|や|と|および|及び|または|ならびに|ないし|もしくは)+{HOLE})*"
ABOUT = (
    "(?:など|等)?(?:の?(?:徴候|所見|既往|合併|併存|存在|出現|家族歴|関与))?(?:には|とは|とも|にも|は|を|も|が|の|に)?"
)
DENIED = re.compile(f"{ALSO}{ABOUT}(?:{DENIAL}|{DENYING_VERB})")
GONE = re.compile(f"{ALSO}{ABOUT}(?:消失|消え|軽快|改善|解消|陰性化|(?:[見み]られ)?なくな)")
DOUBTED = re.compile(rf"{ALSO}{ABOUT}\s*(?:強く)?(?:{DOUBT})")
DOUBT_AHEAD = re.compile(r"[rsRS]/[oO]\s*$")
ANY_DENIAL = re.compile(f"{DENIAL}|{DENYING_VERB}|ず(?![つか])|ません|乏し|消失")
ANY_DOUBT = re.compile(f"{DOUBT}|鑑別|念頭|想定|区別|考え|考慮|候補|捨て|みなさ|かも|検討|DDx")
BOX_LEFT_EMPTY = re.compile("□$")
OF_A_RELATIVE = re.compile(
    "(?:父|母|兄|姉|弟|妹|叔父|叔母|伯父|伯母|家族|血縁者|家系)(?:にも?|：|＝)[^、，。．]{0,12}$"
)


def doubtful_certainties(documents: Iterable[Document]) -> list[Candidate]:
    """Entities whose certainty the words around them seem to contradict."""
    found = []
    for document in documents:
        for entity, before, after in _with_holes(document):
            if why := _doubt(entity.certainty, before, after):
                context = _context(document, entity.start, entity.end)
                found.append(Candidate(document.surface(entity), document.id, context, why))
    return found


def _doubt(certainty: str | None, before: str, after: str) -> str | None:
    if certainty == "general" and OF_A_RELATIVE.search(before):
        return None  # denied or not
    if certainty != "negative" and DENIED.match(after):
        return f"is {certainty} with a denial behind it"
    if certainty == "negative" and not ANY_DENIAL.search(after) and not BOX_LEFT_EMPTY.search(before):
        return "is negative, and nothing behind it in its line denies it"
    if certainty == "negative" and GONE.match(after):
        return "is negative, but was there before it went"
    if certainty == "positive" and (DOUBTED.match(after) or DOUBT_AHEAD.search(before)):
        return "is positive beside a word of doubt"
    if certainty == "suspicious" and not ANY_DOUBT.search(before + after):
        return "is suspicious in a line without a word of doubt"
    if OF_A_RELATIVE.search(before):
        return f"is {certainty} but seems to be a relative's"
    return None


def _with_holes(document: Document) -> Iterator[tuple[Entity, str, str]]:
    """Each entity with its line's text before and behind it, all other entities as holes."""
    for start, end in lines(document.text):
        inside = [e for e in sorted(document.entities) if start <= e.start < end]
        gaps = [document.text[a.end : b.start] for a, b in pairwise(inside)]
        pieces = [document.text[start : inside[0].start], *gaps, document.text[inside[-1].end : end]] if inside else []
        for k, entity in enumerate(inside):
            yield entity, HOLE.join(pieces[: k + 1]), HOLE.join(pieces[k + 1 :])
