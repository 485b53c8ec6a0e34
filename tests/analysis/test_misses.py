"""What is missed, with denominators, beside chance, and the mixed model of being found."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from nbutils import ROOT, open_results
from nbutils.analysis import errors, misses
from nbutils.analysis.errors import FALSE_POSITIVE


@pytest.fixture(scope="module")
def demo():
    return open_results(ROOT / "studies" / "demo.yaml")


@pytest.fixture(scope="module")
def mentions(demo):
    return misses.mention_table(demo, train="CR", evaluate="PN")


def test_every_gold_mention_is_there_once_for_every_run(demo, mentions):
    n_gold = sum(len({e.key for e in d.entities}) for d in demo.corpora["PN"])
    assert set(mentions.groupby(["system", "seed"]).size()) == {n_gold}


def test_misses_are_shares_of_the_known_and_of_the_unknown_names(demo, mentions):
    table = misses.missed_table(demo.study, mentions)
    title = demo.study.systems["crf"].title
    of_crf = mentions[(mentions["system"] == "crf") & (mentions["seed"] == 0)]
    assert table.loc[title, "unseen: missed (%)"] == pytest.approx(100 * (~of_crf[~of_crf["seen"]]["found"]).mean())
    assert table.loc[title, "seen in training: mentions"] == of_crf["seen"].sum()


def test_an_untuned_model_touches_no_more_names_than_chance_does(demo):
    rows = errors.of_runs(demo, train="CR", evaluate="PN")
    counted = errors.count_table(demo.study, rows, errors.runs_of(demo, "CR"), FALSE_POSITIVE)
    table = misses.chance_table(demo.study, demo, counted, FALSE_POSITIVE, train="CR", evaluate="PN")
    untuned = table.loc[demo.study.systems["icl-zero"].title]
    assert untuned["boundary kinds"] < 1.2 * untuned["by chance"]


def test_without_statsmodels_a_sentence_says_so(demo, mentions, monkeypatch):
    monkeypatch.setattr(misses, "find_spec", lambda _: None)
    assert misses.mixed_model(demo.study, mentions, "bert", "lora") == misses.WITHOUT


def test_the_mixed_model_finds_simulated_effects_again(demo):
    """Known names: three times the odds; the second system: half of them; physicians differ and cases do not."""
    pytest.importorskip("statsmodels")
    rng = np.random.default_rng(0)
    hard = {"physician": rng.normal(0, 1.2, 12), "own": rng.normal(0, 0.6, (2, 12))}
    rows = []
    for p, c, k, (s, system) in product(range(12), range(8), range(8), enumerate(("bert", "lora"))):
        seen = (c + k) % 2 == 0
        logit = -0.3 + np.log(3) * seen + np.log(0.5) * s + hard["physician"][p] + hard["own"][s, p]
        rows.append({"system": system, "seed": 0, "document": f"{p}-{c}", "physician": f"p{p}", "case": f"c{c}",
                     "found": rng.random() < 1 / (1 + np.exp(-logit)), "seen": seen, "length": 4})  # fmt: skip
    table = misses.mixed_model(demo.study, pd.DataFrame(rows), "bert", "lora")
    seen, physician, case = (table.loc[key, "value"] for key in (
        ("odds ratio", "seen in training"), ("SD (logit)", "physician"), ("SD (logit)", "case")))  # fmt: skip
    assert 2 < seen < 4.5 and 0.7 < physician < 1.8 and case < 0.35
    assert 0.3 < table.loc[("SD (logit)", "physician × system"), "value"] < 1.1
