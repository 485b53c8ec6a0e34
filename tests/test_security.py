"""SECURITY.md names a test for each promise; each of these is there."""

import re

from nbutils import ROOT


def test_every_promise_is_held_by_a_test_that_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8")))
    files = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    there = {name for text in files for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}
    assert len(named) > 15 and named <= there
