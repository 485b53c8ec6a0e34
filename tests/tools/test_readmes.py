"""What commands write into the READMEs stands between marks, the same in both languages, and is up to date."""

import re

import pytest

from nbutils import ROOT
from nbutils.files import DataError
from tools import readmes, report


@pytest.mark.parametrize(
    ("study", "name"), [(study, page) for study in readmes.TABLES for page in readmes.TABLES[study]]
)
def test_a_page_shows_the_main_tables(name, study):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert readmes.shown(study, text) == readmes.main_table(study), "run `make reference`"


def test_rows_that_find_nothing_are_not_shown_and_said_to_be_left_out():
    whole = report.result_table(ROOT / "figures" / "demo").splitlines()
    shown = readmes.main_table("demo").splitlines()
    gone = [line for line in whole if line not in shown]
    assert [line.split("|")[1].strip() for line in gone] == [f"Tiny Llama ({how})" for how in (
        "untuned", "zero-shot", "few-shot, 1 line")]  # fmt: skip
    assert shown[-1].startswith("Left out: 3 systems below 5 everywhere")


def test_both_readmes_name_the_same_commands_and_have_the_same_sections():
    english, japanese = ((ROOT / name).read_text(encoding="utf-8") for name in readmes.READMES)
    for opening in ("## ", "| `make"):
        counts = [sum(line.startswith(opening) for line in text.splitlines()) for text in (english, japanese)]
        assert counts[0] == counts[1] > 0, opening


def test_the_python_of_the_readmes_runs_as_it_stands(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = [
        re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.S) for name in readmes.READMES
    ]
    (english,), (japanese,) = ([re.sub(r"#.*", "", block) for block in of_one] for of_one in blocks)
    assert english == japanese
    exec(english, {})
    assert re.fullmatch(r"Scores\(matched_predicted=\d\d, .*\)\n", capsys.readouterr().out)


def test_what_the_readme_names_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    named = {*re.findall(r"(?:`|^)make ([a-z-]+)", text, re.M)}
    assert {"study", "test", "next", "card"} <= named <= {*targets}
    studies = {*re.findall(r"STUDY=([a-z_]+)\b(?!\.yaml)", text)} - {"my_study"}
    assert studies and all((ROOT / "studies" / f"{study}.yaml").is_file() for study in studies)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    assert links and not [link for link in links if not (ROOT / link).exists()]
    assert text.count("\n") <= 150


def test_filling_changes_nothing_outside_the_marks(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("above\n<!-- result -->\nold\n<!-- /result -->\nbelow\n", encoding="utf-8")
    assert readmes.fill("result", "| new |", tmp_path) == [path]
    assert path.read_text(encoding="utf-8") == "above\n<!-- result -->\n| new |\n<!-- /result -->\nbelow\n"
    assert readmes.fill("result", "| new |", tmp_path) == []


def test_a_readme_without_marks_is_refused_and_none_is_changed(tmp_path):
    (tmp_path / "README.md").write_text("<!-- result -->\n<!-- /result -->\n", encoding="utf-8")
    (tmp_path / "README.ja.md").write_text("no marks", encoding="utf-8")
    with pytest.raises(DataError, match="the marks"):
        readmes.fill("result", "| new |", tmp_path)
    assert "new" not in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_the_lessons_stick_holds_wheels_and_no_sources():
    """Three locked packages come as sources only, which cannot be built without a connection."""
    lesson = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    assert (
        "pip wheel -r torch.lock" in lesson
        and "-r requirements.lock -w wheels" in lesson
        and "pip download" not in lesson
    )
