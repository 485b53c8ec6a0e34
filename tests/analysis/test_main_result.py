"""Tables over runs: mean (SD), the sign of Δ, the paper's tables as printed."""

import pandas as pd
import pytest

from nbutils import ROOT
from nbutils.analysis import main_result
from nbutils.analysis import paper as paper_module
from nbutils.study.file import load_study


@pytest.fixture
def plan():
    return load_study(ROOT / "studies" / "demo.yaml")


def scores(plan, values):
    """One row a seed and setting; `values` gives the F1 of each seed by (train, evaluate)."""
    rows = [
        {"system": "crf", "train": t, "evaluate": e, "setting": "ID" if t == e else "OOD", "seed": k, "f1": v}
        for (t, e), seeds in values.items()
        for k, v in enumerate(seeds)
    ]
    return pd.DataFrame(rows)


def test_delta_is_ood_minus_id_as_table_3_prints_it(plan):
    table = main_result.main_table(plan, scores(plan, {("CR", "CR"): [70, 80], ("CR", "PN"): [60, 60]}))
    row = table.iloc[0].to_list()
    assert row[:3] == ["75.0 (7.1)", "60.0 (0.0)", "-15.0"]


def test_the_sd_of_a_single_run_is_a_dash_and_so_is_what_was_not_run(plan):
    table = main_result.main_table(plan, scores(plan, {("CR", "CR"): [70]}))
    assert table.iloc[0].to_list()[:3] == ["70.0 (—)", "—", "—"] and table.iloc[1, 0] == "—"


def test_the_papers_table_3_is_kept_as_printed_with_its_oddity_flagged():
    paper = paper_module.paper_table(3).set_index("system")
    assert paper.loc["LLaMA-3.1 (Few-shot)", "ΔPN"] == "-11.0" and "-1.1" in paper.loc["LLaMA-3.1 (Few-shot)", "note"]


def test_every_printed_delta_but_the_flagged_one_is_ood_minus_id():
    paper = paper_module.paper_table(3)
    for _, row in paper.iterrows():
        for inside, outside, delta in (("CR→CR", "CR→PN", "ΔCR"), ("PN→PN", "PN→CR", "ΔPN")):
            right = abs(float(row[outside]) - float(row[inside]) - float(row[delta])) < 0.051
            assert right or "as printed" in row["note"]


def test_the_written_table_says_what_its_numbers_are_not(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(main_result, "figure_folder", lambda _: tmp_path)
    table = main_result.main_table(plan, scores(plan, {("CR", "CR"): [70, 71, 72]}))
    text = main_result.write_main_result(plan, table).read_text(encoding="utf-8")
    assert "no number here replicates the paper" in text and "| CRF" in text
    assert (tmp_path / "main_result.csv").exists()
