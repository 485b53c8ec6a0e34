"""Entities as BIO labels on pieces, and back."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils.corpus import Entity
from nbutils.taggers.bio import bio_labels, bio_to_entities, entities_to_bio, viterbi

LABELS = ("d", "a", "timex3")


def decode(names, offsets, decoding="argmax", labels=("d",)):
    """Entities when the model is sure of these label names."""
    return [e.key for e in bio_to_entities(sure(names, labels), offsets, labels, decoding)]


def sure(names, labels=("d",)):
    numbers = [bio_labels(labels).index(name) for name in names]
    return np.log(np.eye(1 + 2 * len(labels))[numbers] + 1e-9)


@st.composite
def pieces_and_entities(draw):
    """Pieces with gaps, some of them several to a character, and entities that begin and end with pieces."""
    offsets, groups, at = [], [], 0
    for gap, length, copies in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 3)), max_size=12)
    ):
        at += gap
        groups.append((at, at + length))
        offsets += [(at, at + length)] * copies
        at += length
    cuts = sorted(draw(st.sets(st.integers(0, len(groups)), max_size=8)))
    spans = [(groups[a][0], groups[b - 1][1]) for a, b in itertools.pairwise(cuts) if draw(st.booleans())]
    return offsets, [Entity(s, e, draw(st.sampled_from(LABELS))) for s, e in spans]


@settings(max_examples=200, deadline=None)
@given(pieces_and_entities(), st.sampled_from(["argmax", "viterbi"]))
def test_entities_of_whole_pieces_survive_bio(case, decoding):
    offsets, entities = case
    names = [bio_labels(LABELS)[n] for n in entities_to_bio(entities, offsets, LABELS)]
    assert decode(names, offsets, decoding, LABELS) == [e.key for e in entities]


def test_adjacent_entities_stay_two():
    offsets = [(0, 1), (1, 2), (2, 3), (3, 4)]
    labels = entities_to_bio([Entity(0, 2), Entity(2, 4)], offsets, ["d"])
    assert [bio_labels(["d"])[n] for n in labels] == ["B-d", "I-d", "B-d", "I-d"]


def test_a_piece_that_an_entity_only_cuts_into_counts_as_inside():
    assert entities_to_bio([Entity(1, 3)], [(0, 2), (2, 4)], ["d"]) == [1, 2]


def test_an_inside_without_its_beginning_opens_an_entity():
    assert decode(["O", "I-d", "I-d"], [(0, 1), (1, 2), (2, 3)]) == [(1, 3, "d")]


def test_an_inside_of_another_type_opens_an_entity_of_that_type():
    assert decode(["B-d", "I-a"], [(0, 1), (1, 2)], labels=("d", "a")) == [(0, 1, "d"), (1, 2, "a")]


@pytest.mark.parametrize("second", ["B-d", "I-d", "O"])
def test_pieces_of_one_character_cannot_be_parted(second):
    assert decode(["B-d", second, "I-d"], [(0, 1), (0, 1), (1, 2)]) == [(0, 2, "d")]


@pytest.mark.parametrize("middle", ["B-d", "I-d", "O"])
def test_a_piece_without_characters_decides_nothing(middle):
    assert decode(["B-d", middle, "I-d"], [(0, 1), (1, 1), (1, 2)]) == [(0, 2, "d")]


def test_a_piece_without_characters_does_not_join_what_lies_apart():
    assert decode(["B-d", "O", "I-d", "I-d"], [(0, 1), (1, 2), (5, 5), (5, 6)]) == [(0, 1, "d"), (5, 6, "d")]


def test_an_entitys_score_is_the_product_of_its_pieces_probabilities():
    log_probs = np.log([[0.1, 0.8, 0.1], [0.3, 0.1, 0.6], [0.9, 0.05, 0.05]])
    (entity,) = bio_to_entities(log_probs, [(0, 1), (1, 2), (2, 3)], ["d"])
    assert entity.score == pytest.approx(0.48)


def well_formed(path):
    return all(n % 2 or n == 0 or (k and path[k - 1] in (n - 1, n)) for k, n in enumerate(path))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 5), st.integers(1, 2), st.integers(0, 2**32 - 1))
def test_viterbi_finds_the_likeliest_well_formed_labels(n_pieces, n_types, seed):
    n_labels = 1 + 2 * n_types
    log_probs = np.log(np.random.default_rng(seed).dirichlet(np.ones(n_labels), n_pieces).reshape(n_pieces, n_labels))
    paths = [p for p in itertools.product(range(n_labels), repeat=n_pieces) if well_formed(p)]
    best = max(paths, key=lambda p: sum(log_probs[k, n] for k, n in enumerate(p)))
    assert tuple(viterbi(log_probs)) == best


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_viterbi_never_yields_an_inside_without_its_beginning(n_pieces, n_types, seed):
    path = viterbi(np.random.default_rng(seed).normal(size=(n_pieces, 1 + 2 * n_types)))
    assert well_formed(path.tolist())


def test_no_pieces_have_no_entities():
    assert decode([], [], "viterbi") == []
