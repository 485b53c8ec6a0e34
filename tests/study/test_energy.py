"""Energy from the machine's own counters: packages summed, a counter that begins again, nothing where none is told."""

import pytest

from nbutils.study import energy
from nbutils.study.runs import timed


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Two processor packages, one with a part of its own, as Linux shows them."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    monkeypatch.setattr(energy, "_gpus", dict)

    def show(**microjoules):
        for name, value in microjoules.items():
            folder = tmp_path / name.replace("_", ":").replace("rapl", "intel-rapl")
            folder.mkdir(exist_ok=True)
            (folder / "energy_uj").write_text(f"{value}\n")
            (folder / "max_energy_range_uj").write_text("10000000\n")

    return show


def test_packages_are_summed_and_what_is_part_of_one_is_not_counted_twice(machine):
    seconds, joules = {}, {}
    machine(rapl_0=1_000_000, rapl_1=0, rapl_0_0=500_000)
    with timed(seconds, "fit", joules):
        machine(rapl_0=4_000_000, rapl_1=2_000_000, rapl_0_0=3_000_000)
    assert joules == {"fit": 5.0} and seconds["fit"] >= 0


def test_a_counter_that_begins_again_has_gone_on(machine):
    machine(rapl_0=9_000_000)
    before = energy.counters()
    machine(rapl_0=1_000_000)
    assert energy.joules(before, energy.counters()) == 2.0


def test_a_machine_that_tells_nothing_leaves_no_energy_in_the_record(machine, tmp_path):
    joules = {}
    with timed({}, "fit", joules):
        pass
    assert joules == {} and energy.joules({}, {}) is None


def test_a_counter_that_only_root_may_read_is_left_out(machine, tmp_path):
    machine(rapl_0=1)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert energy.counters() == {}
