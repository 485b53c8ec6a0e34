"""Which notes to annotate next: least expected F1, spread over hospitals and authors, no near-copies, no text shown."""

import csv

import numpy as np
import pytest

from nbutils import ROOT
from nbutils.corpus import Document, Entity
from nbutils.corpus.formats import read_corpus, write_corpus
from nbutils.files import DataError
from nbutils.study.runs import write_run
from nbutils.taggers import crf
from nbutils.taggers.settings import CrfSettings
from nbutils.tagging.__main__ import main
from nbutils.tagging.choose import choose, expected_f1


def note(id, text, scores=(), **meta):
    """A note whose k-th pair of characters is an entity of the k-th score."""
    return Document(id, text, tuple(Entity(2 * k, 2 * k + 2, score=s) for k, s in enumerate(scores)), meta)


def ids(choices):
    return [c.note.id for c in choices]


def random_text(n, seed):
    return "".join(chr(0x4E00 + k) for k in np.random.default_rng(seed).integers(0, 3000, n))


CERTAIN, DOUBTFUL = note("certain", random_text(40, 1), [0.95] * 4), note("doubtful", random_text(40, 2), [0.4] * 4)
EMPTY, SHORT = note("empty", random_text(40, 3)), note("short", random_text(3, 4))


def test_the_expected_f1_is_that_of_the_formula():
    """Two notes of ten characters, 2 and 0 entities: a name per ten characters, so each note should hold one."""
    f1 = expected_f1([note("a", "あ" * 10, [0.9, 0.5]), note("b", "い" * 10)])
    assert f1 == pytest.approx([(2 * 1.4 + 1) / (2 + 1.4 + 1), 1 / (0 + 1 + 1)])


def test_a_long_note_in_which_nothing_was_found_comes_first_and_a_short_one_does_not():
    assert ids(choose([CERTAIN, SHORT, DOUBTFUL, EMPTY], 4)) == ["empty", "doubtful", "short", "certain"]


def test_near_copies_of_a_chosen_note_are_left_out():
    copied = note("copied", EMPTY.text[:-2] + "著変")
    assert ids(choose([EMPTY, copied, CERTAIN], 3)) == ["empty", "certain"]


def test_hospitals_and_authors_take_turns():
    texts = iter(range(100, 200))
    notes = [note(f"{h}{a}{k}", random_text(30, next(texts)), [0.2 if h == "A" else 0.9], hospital=h, author=f"{h}{a}")
             for h in "AB" for a in "xy" for k in range(3)]  # fmt: skip
    first = choose(notes, 4)
    assert [c.note.meta["hospital"] for c in first] == ["A", "B", "A", "B"]
    assert len({c.note.meta["author"] for c in first}) == 4


def test_a_random_draw_has_a_seed_and_no_expectation():
    notes = [note(str(k), random_text(20, k)) for k in range(30)]
    assert (
        ids(choose(notes, 9, "random", 1)) == ids(choose(notes, 9, "random", 1)) != ids(choose(notes, 9, "random", 2))
    )
    assert np.isnan(choose(notes, 1, "random")[0].expected_f1)


def test_a_system_without_scores_can_only_be_drawn_for_at_random():
    bare = [Document("n", "発熱あり", (Entity(0, 2),))]
    with pytest.raises(DataError, match="BY=random"):
        choose(bare, 1)
    assert ids(choose(bare, 1, "random")) == ["n"]


def test_the_command_writes_a_table_and_suggestions_for_the_chosen_notes_and_shows_no_text(tmp_path, capsys):
    corpus = read_corpus(ROOT / "data/examples/three_hospitals", "jsonl")
    crf.fit(corpus.documents[:6], CrfSettings(iterations=10), progress=False).save(tmp_path / "run/model")
    write_run(tmp_path / "run", {"study": "s", "system": "crf", "kind": "crf", "train": "A", "seed": 0})
    write_corpus(corpus, tmp_path / "notes.jsonl")
    where = ["--run", str(tmp_path / "run"), "--notes", str(tmp_path / "notes.jsonl"), "--out", str(tmp_path / "out")]
    assert main([*where, "--next", "6", "--as", "labelstudio"]) == 0
    with open(tmp_path / "out/next.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == list("123456")
    assert sorted(row["hospital"] for row in rows) == ["aoba", "aoba", "kita", "kita", "minato", "minato"]
    printed = capsys.readouterr()
    for document in corpus:
        assert not any(line in printed.out + printed.err for line in document.text.splitlines() if len(line) > 8)
    for name in ("next.csv", "suggestions.labelstudio.json", "labelstudio.xml"):
        assert (tmp_path / "out" / name).stat().st_mode & 0o777 == 0o600
    assert main([*where, "--next", "6", "--by", "random", "--seed", "3"]) == 0
