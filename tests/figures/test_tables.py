"""Tables as a reader sees them: dashes, commas, one column for an interval, text that is never markup."""

import math
import re
from types import SimpleNamespace

import pandas as pd

from nbutils.figures import style, tables
from nbutils.taggers.settings import CrfSettings, IclSettings


def cells(html):
    return re.findall(r"<td[^>]*>([^<]*)</td>", html.data)


def test_nan_is_a_dash_and_counts_have_commas_and_no_decimals():
    assert cells(tables.show(pd.DataFrame({"n": [1234], "F1": [math.nan], "ok": [True]}))) == ["1,234", "—", "yes"]


def test_the_ends_of_an_interval_stand_in_one_cell():
    frame = pd.DataFrame({"F1": [50.0], "95 % from": [40.04], "95 % to": [60.0]})
    assert cells(tables.show(frame)) == ["50.0", "[40.0, 60.0]"]


def test_an_interval_is_called_that_of_these_models_only_beside_one_over_other_trainings():
    alone = pd.DataFrame([[0.9, 0.8, 1.0]], columns=["F1", "95 % from", "95 % to"])
    both = alone.assign(**{"other trainings: 95 % from": 0.7, "other trainings: 95 % to": 1.0})
    assert "95 % interval" in tables.show(alone).data and "these models" not in tables.show(alone).data
    assert "95 %: these models" in tables.show(both).data and "95 %: other trainings" in tables.show(both).data


def test_a_row_label_is_written_once_and_a_count_of_rows_not_at_all():
    frame = pd.DataFrame({"F1": [1.0, 2.0]}, index=pd.MultiIndex.from_product([["A"], ["x", "y"]], names=["s", "t"]))
    assert cells(tables.show(frame)) == ["A", "x", "1.0", "", "y", "2.0"]
    assert cells(tables.show(frame.reset_index(drop=True))) == ["1.0", "2.0"]


def test_lists_and_mappings_are_written_as_a_person_writes_them():
    shown = cells(tables.show(pd.DataFrame({"value": [("d", "a"), {"CR": 1000, "PN": None}, (), {}]})))
    assert shown == ["d, a", "CR: 1,000, PN: —", "—", "—"]


def test_settings_that_a_study_file_gives_are_shown_and_the_others_are_closed_below():
    html = tables.settings(CrfSettings(labels=("d", "a"), c1=0.5), "A CRF").data
    given, silent = html.split("<details>")
    assert cells(SimpleNamespace(data=given)) == ["labels", "d, a", "c1", "0.5"] and "A CRF" in given
    assert "c2" in silent and "iterations" in silent
    assert "price" in tables.settings(IclSettings(model="m"), "A prompted model").data.split("<details>")[1]


def test_settings_that_are_all_at_their_default_are_not_closed():
    html = tables.settings(CrfSettings(), "A CRF").data
    assert "<details>" not in html and "iterations" in html


def test_p_values_have_four_digits():
    assert cells(tables.show(pd.DataFrame({"p": [0.01234], "p (Holm)": [0.5], "points": [0.5]}))) == [
        "0.0123",
        "0.5000",
        "0.5",
    ]


def test_text_is_left_aligned_and_numbers_are_right_aligned_without_a_style_sheet():
    """JupyterLab takes <style> out of saved outputs until the notebook is run, and then aligns all to the right."""
    html = tables.show(pd.DataFrame({("a", "name"): ["x"], ("a", "n"): [1]})).data
    assert "<style" not in html and re.findall(r"text-align: (\w+)[^>]*>([^<]+)<", html) == [
        ("left", "a"), ("left", "name"), ("right", "n"), ("left", "x"), ("right", "1")]  # fmt: skip


def test_no_p_value_is_shown_as_nought():
    shown = cells(tables.show(pd.DataFrame({"p": [0.00001, 0.0002, math.nan], "points": [0.0, 0.0, 0.0]})))
    assert shown == ["&lt;0.0001", "0.0", "0.0002", "0.0", "—", "0.0"]


def test_text_of_a_corpus_is_no_markup():
    html = tables.show(pd.DataFrame({"<b>x</b>": ["<script>alert(1)</script>"]})).data
    assert "<script>" not in html and "<b>x" not in html


def test_an_empty_table_is_shown_without_an_error():
    assert "table" in tables.show(pd.DataFrame()).data


def test_a_dollar_sign_is_a_dollar_sign_in_a_figure():
    assert style.plain("$x$") == r"\$x\$"
