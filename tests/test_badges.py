"""Badges name the repository that was given, every notebook, and no placeholder."""

import pytest

from nbutils import badges
from nbutils.files import DataError
from nbutils.outputs import notebooks


def test_every_notebook_has_a_link_into_the_given_repository():
    links = badges.table("someone/cross-hospital-ner", "main")
    assert all(f"github/someone/cross-hospital-ner/blob/main/notebooks/{p.name})" in links for p in notebooks())
    assert "mybinder.org/v2/gh/someone/cross-hospital-ner/main?labpath=notebooks%2F01_data" in links


@pytest.mark.parametrize("name", ["", "someone", "https://github.com/someone/x", "a/b/c", "a/b)c"])
def test_what_is_no_repository_is_refused(name):
    with pytest.raises(DataError, match="owner/name"):
        badges.table(name)
