"""Settings are chosen on training notes: no test note is fitted, tagged or scored, and small gains change nothing."""

from dataclasses import replace

import pandas as pd
import pytest

from nbutils import load_study, open_corpora
from nbutils.study.corpora import split
from nbutils.taggers.dictionary import fit_dictionary
from tools import choose_settings
from tools.choose_settings import CANDIDATES, candidates_table, changed, parts_of_training, verdict


@pytest.fixture(scope="module")
def study():
    return load_study("studies/demo.yaml")


class Watched:
    """A tagger that notes down what it is asked to tag."""

    def __init__(self, tagger, seen):
        self.tagger, self.seen = tagger, seen

    def predict(self, documents, progress=False):
        self.seen.extend(documents)
        return self.tagger.predict(documents)


@pytest.mark.parametrize("train", ["CR", "PN"])
def test_no_test_note_is_fitted_tagged_or_scored(study, monkeypatch, train):
    fitted, tagged = [], []

    def fit(study, name, documents, **besides):
        fitted.extend(documents)
        return Watched(fit_dictionary(documents), tagged)

    monkeypatch.setattr(choose_settings, "fit_system", fit)
    table = candidates_table(study, "lora", train, CANDIDATES["lora"])
    training, test = split(study, open_corpora(study)[train])
    seen = {d.text for d in [*fitted, *tagged]}
    assert seen == {d.text for d in training} and not seen & {d.text for d in test}
    assert not {d.id for d in fitted} & {d.id for d in tagged}
    assert (table["change (points)"] == 0).all()  # every candidate was the same tagger
    assert verdict(table, study.margin).startswith("Kept")


def test_progress_notes_are_divided_by_case(study):
    fitted_on, scored_on = parts_of_training(study, "PN", seed=1)
    assert scored_on.documents and not {d.meta["case"] for d in fitted_on} & {d.meta["case"] for d in scored_on}


@pytest.mark.parametrize("system", CANDIDATES)
def test_every_candidate_is_a_valid_setting_and_the_first_is_the_study_s_own(study, system):
    names = list(CANDIDATES[system])
    assert len(names) <= 6 and changed(study, system, CANDIDATES[system][names[0]]) == study
    for name in names[1:]:
        other = changed(study, system, CANDIDATES[system][name])
        assert other != study and replace(other, systems=study.systems, tiny=study.tiny) == study


def test_only_a_clear_gain_above_the_margin_changes_the_settings():
    table = pd.DataFrame({"settings": ["old", "a", "b"], "F1 (%)": [20.0, 22.0, 29.0],
                          "change (points)": [0.0, 2.0, 9.0], "p (Holm)": [None, 0.001, 0.2]})  # fmt: skip
    assert verdict(table, 3).startswith("Kept: old")
    assert verdict(table.assign(**{"p (Holm)": [None, 0.001, 0.01]}), 3).startswith("Changed to: b, +9.0")
