"""Adapting a system: pool and test part share nothing, a killed computation goes on, nothing of a note is written."""

import json
import stat
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils import load_study, open_corpora
from nbutils.analysis import adapting
from nbutils.analysis.adapting import BOTH, INSIDE, NAMES, SOURCE, Cell, pool_and_test, sure_lines, united
from nbutils.corpus import Corpus, Document, Entity, Prediction
from nbutils.files import DataError

KEYS = ("hospital", "patient", "case")
MAYBE = st.none() | st.sampled_from("abcdef")


def notes_of(metas):
    return Corpus("T", tuple(Document(f"n{k}", "発熱あり。", (Entity(0, 2),), m) for k, m in enumerate(metas)))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.fixed_dictionaries({key: MAYBE for key in KEYS}), min_size=2, max_size=30), st.integers(1, 12),
       st.integers(0, 3))  # fmt: skip
def test_pool_and_test_part_share_no_value_of_any_key(metas, n_pool, seed):
    corpus = notes_of([{key: value for key, value in meta.items() if value} for meta in metas])
    try:
        pool, test = pool_and_test(corpus, n_pool, seed=seed)
    except DataError:
        return
    assert len(pool) >= n_pool and len(test) and not {d.id for d in pool} & {d.id for d in test}
    for key in KEYS:
        values = [d.meta[key] for d in corpus if key in d.meta]
        if max(map(values.count, values), default=0) > 1 and len({*values}) > 1:
            assert not {d.meta.get(key, d.id) for d in pool} & {d.meta.get(key, d.id) for d in test}


def test_notes_of_one_key_are_halved_and_crossed_keys_leave_the_largest_test_part():
    patients = notes_of([{"patient": f"p{k % 10}"} for k in range(100)])
    assert [len(part) for part in pool_and_test(patients, 5)] == [50, 50]
    assert [len(part) for part in pool_and_test(patients, 60)] == [60, 40]
    grid = notes_of([{"case": f"c{k % 10}", "hospital": f"h{k // 10}"} for k in range(100)])
    assert [len(part) for part in pool_and_test(grid, 40)] == [42, 12]  # 7 × 6 and 3 × 4
    authors = notes_of([{"case": f"c{k % 10}", "physician": f"d{k // 10}"} for k in range(100)])
    pool, test = pool_and_test(authors, 40)
    assert len(pool) == len(test) == 50
    assert {d.meta["physician"] for d in pool} == {d.meta["physician"] for d in test}


def test_more_notes_than_can_be_set_apart_are_refused_with_the_number_that_can():
    with pytest.raises(DataError, match=r"no 9 can be learned from .* ask for at most 8"):
        pool_and_test(notes_of([{"hospital": "abc"[k // 4]} for k in range(12)]), 9)


def test_the_longer_of_two_names_that_overlap_is_kept_and_the_systems_own_of_equals():
    own = Prediction("n", (Entity(0, 2, "d", score=0.5), Entity(6, 8)))
    known = Prediction("n", (Entity(1, 5), Entity(6, 8, "m"), Entity(9, 11)))
    assert [e.key for e in united(own, known).entities] == [(1, 5, "d"), (6, 8, "d"), (9, 11, "d")]


def test_a_line_is_learned_from_when_all_that_is_marked_in_it_is_sure():
    note = Document("n", "発熱あり。\n咳嗽、胸水なし。\n特記なし。\n")
    found = (Entity(0, 2, score=0.99), Entity(6, 8, score=0.95), Entity(9, 11, score=0.4))
    kept = sure_lines([note], [Prediction("n", found)])
    assert [(d.text, [d.surface(e) for e in d.entities]) for d in kept] == [("発熱あり。", ["発熱"])]


# --- a whole, small study ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """The demo study with few notes, an almost untrained CRF and two repeats."""
    study = load_study("studies/demo.yaml")
    crf = replace(study.systems["crf"], settings={"iterations": 3})
    adapt = replace(study.adapt, notes=(0, 2, 4), repeats=2, systems=("crf",))
    corpora = open_corpora(study)
    cut = {
        "CR": replace(corpora["CR"], documents=corpora["CR"].documents[:10]),
        "PN": replace(corpora["PN"], documents=tuple(d for d in corpora["PN"] if d.meta["case"] < "case-05")),
    }
    return replace(study, systems={"crf": crf}, adapt=adapt, evaluate=("CR", "PN")), cut


@pytest.fixture(scope="module")
def computed(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "crf.jsonl"
    return path, adapting.counts(*small, "crf", runs=path.parent, kept=[path], progress=False)


def test_every_note_of_the_test_part_is_counted_in_every_cell(small, computed):
    study, corpora = small
    setup = adapting.Setup(study, "crf", corpora)
    rows = computed[1]
    for (way, _, repeat, _), some in rows.groupby(["way", "notes", "repeat", "seed"]):
        test = setup.parts[1] if way == INSIDE else setup.divisions[repeat][1]
        corpus = corpora["CR" if way == INSIDE else "PN"].documents
        assert {corpus[k].id for k in some["place"]} == {d.id for d in test}
        assert [len(corpus[k].entities) for k in some["place"]] == some["n_gold"].tolist()
    assert set(rows.query("way == @BOTH")["notes"]) == {2, 4}


def test_the_dictionary_never_takes_a_name_away(computed):
    rows = computed[1].set_index(["way", "repeat", "place"])
    for notes in (2, 4):
        more = rows[rows["notes"] == notes].loc[NAMES]["n_predicted"]
        assert (more >= rows.loc[SOURCE]["n_predicted"].reindex(more.index) - 2).all()


def test_a_killed_computation_goes_on_to_the_same_file(small, computed, tmp_path, monkeypatch):
    path, whole = computed
    other, fits = tmp_path / "crf.jsonl", []
    real = adapting.Setup.counts

    def killed(setup, cell):
        fits.append(cell)
        if len(fits) == 5:
            raise KeyboardInterrupt
        return real(setup, cell)

    monkeypatch.setattr(adapting.Setup, "counts", killed)
    with pytest.raises(KeyboardInterrupt):
        adapting.counts(*small, "crf", runs=tmp_path, kept=[other], progress=False)
    again = adapting.counts(*small, "crf", runs=tmp_path, kept=[other], progress=False)
    assert other.read_bytes() == path.read_bytes() and again.equals(whole)
    assert len(fits) == len({*fits}) + 1  # only what was cut off is fitted twice


def test_kept_counts_are_read_only_for_the_same_notes_and_settings(small, computed, tmp_path):
    study, corpora = small
    path, whole = computed
    assert adapting.counts(study, corpora, "crf", kept=[path], compute=False).equals(whole)
    fewer = replace(study, adapt=replace(study.adapt, repeats=1))
    assert set(adapting.counts(fewer, corpora, "crf", kept=[path], compute=False)["repeat"]) == {0}
    changed = corpora | {"PN": replace(corpora["PN"], documents=corpora["PN"].documents[1:])}
    for other in ((study, changed), (replace(study, split_seed=1), corpora)):
        assert adapting.counts(*other, "crf", kept=[path], compute=False).empty


def test_what_is_written_holds_numbers_only_and_is_the_owners_when_a_corpus_is_private(small, computed, tmp_path):
    for line in computed[0].read_text().splitlines()[1:]:
        row = json.loads(line)
        assert set(row) == {"cell", "counts"} and all(isinstance(n, int) for counts in row["counts"] for n in counts)
    adapting._write(tmp_path / "x.jsonl", "mark", {Cell(BOTH, 2, 0, 0): [[1, 2, 3, 4]]}, private=True)
    assert stat.S_IMODE((tmp_path / "x.jsonl").stat().st_mode) == 0o600
