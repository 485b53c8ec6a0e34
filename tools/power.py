"""How large must a study be? `python -m tools.power --study demo` plans from finished runs: docs/statistics.md."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from nbutils import open_results
from nbutils.analysis import power, significance
from nbutils.study.corpora import main_setting


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the power to see a difference of two gaps, from the runs of a study, for its design and larger ones."""
    parser = argparse.ArgumentParser(prog="python -m tools.power", description=main.__doc__)
    parser.add_argument("--study", default="demo")
    parser.add_argument("--runs", default="data/reference_runs", help="the folder of the pilot's runs")
    parser.add_argument("--effects", type=float, nargs="+", default=power.EFFECTS, help="differences in points")
    parser.add_argument("--physicians", type=int, help="of a design to try; not given: those of the runs and larger")
    parser.add_argument("--cases", type=int)
    parser.add_argument("--inside", type=int, help="in-domain notes")
    parser.add_argument("--trainings", type=int)
    parser.add_argument("--hospitals", type=int, default=0)
    parser.add_argument("--hospital-sd", type=float, default=0.0, help="SD of the difference over hospitals, in points")
    parser.add_argument("--paper", action="store_true", help="the paper's own design instead, under assumed SDs")
    chosen = parser.parse_args(arguments)
    if chosen.paper:
        print(power.the_papers().round(2).to_string(index=False))  # SDs of 0.05 are among them
        return
    results = open_results(f"studies/{chosen.study}.yaml", chosen.runs)
    evaluated = significance.evaluations(results)
    train, evaluate = main_setting(results.study)
    for first, second in significance.pairs(results.study, evaluated):
        variances, design = power.of_pilot(evaluated, first, second, train, evaluate)
        variances = replace(variances, hospital=chosen.hospital_sd**2)
        asked = {key: getattr(chosen, key) for key in ("physicians", "cases", "inside", "trainings", "hospitals")}
        asked = {key: value for key, value in asked.items() if value}
        designs = [design, replace(design, **asked)] if asked else power.larger(design)
        print(f"Δ of {first} − Δ of {second}, {train} → {evaluate}; the first line is the design of the runs")
        print(power.design_table(variances, designs, chosen.effects).round(1).to_string(index=False), end="\n\n")


if __name__ == "__main__":
    main()
