"""F1 by code: counted by hand on notes of a few names."""

import numpy as np

from nbutils.analysis.codes import code_counts
from nbutils.corpus import Document, Entity, Prediction
from nbutils.taggers.terms import Terms

TERMS = Terms({"肺炎": "J18.9", "喘息": "J45.9", "発熱": "R50.9"})


def test_a_name_that_is_cut_wrongly_has_the_right_code_and_one_without_a_code_counts_nowhere():
    note = Document("n", "右肺炎、喘息、倦怠感、肺炎", (Entity(0, 3), Entity(4, 6), Entity(7, 10), Entity(11, 13)))
    found = Prediction("n", (Entity(1, 3), Entity(7, 10)))  # 肺炎 without its side; 倦怠感 is in no list
    assert code_counts([note], [found], TERMS).tolist() == [[1, 1, 2]]


def test_a_note_without_names_counts_nothing():
    assert np.array_equal(code_counts([Document("n", "著変なし")], [Prediction("n", ())], TERMS), [[0, 0, 0]])
