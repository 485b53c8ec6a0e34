"""Badges name the repository that was given, every notebook, and no placeholder."""

import pytest

from nbutils import ROOT, badges
from nbutils.formats import DataError
from nbutils.outputs import notebooks


def test_every_notebook_has_a_link_into_the_given_repository():
    links = badges.table("someone/cross-hospital-ner", "main")
    assert all(f"github/someone/cross-hospital-ner/blob/main/notebooks/{p.name})" in links for p in notebooks())
    assert "mybinder.org/v2/gh/someone/cross-hospital-ner/main?labpath=notebooks%2F01_data" in links


@pytest.mark.parametrize("name", ["", "someone", "https://github.com/someone/x", "a/b/c", "a/b)c"])
def test_what_is_no_repository_is_refused(name):
    with pytest.raises(DataError, match="owner/name"):
        badges.table(name)


def test_badges_go_between_the_marks_and_nowhere_else():
    text = f"above\n{badges.BEGIN}\nold\n{badges.END}\nbelow\n"
    assert badges.fill(text, "new") == f"above\n{badges.BEGIN}\nnew\n{badges.END}\nbelow\n"
    with pytest.raises(DataError, match="marks"):
        badges.fill("no marks", "new")


@pytest.mark.parametrize("name", badges.READMES)
def test_a_readme_has_a_place_for_badges_and_no_placeholder(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert badges.BEGIN in text and badges.END in text
    assert "OWNER/" not in text and "owner/name" not in text.split(badges.BEGIN)[1].split(badges.END)[0]
