"""Train systems of a study on every fold of the like-for-like comparison: `python -m tools.cross_fit bert lora`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nbutils import load_study, open_corpora
from nbutils.analysis import cross_fitting
from nbutils.analysis.generalisation import kept_in
from nbutils.study.corpora import main_setting


def main(arguments: Sequence[str] | None = None) -> None:
    """Write runs/STUDY/generalisation/like-for-like-TARGET-SYSTEM.csv for each system and print its table; notebook 10
    reads them."""
    parser = argparse.ArgumentParser(prog="python -m tools.cross_fit", description=main.__doc__)
    parser.add_argument("systems", nargs="+", help="names in the study file, such as crf, bert, lora")
    parser.add_argument("--study", default="demo")
    parser.add_argument("--target", help="the notes that are tagged; if not given, those of the study's main setting")
    chosen = parser.parse_args(arguments)
    study = load_study(f"studies/{chosen.study}.yaml")
    source, target = main_setting(study)
    if chosen.target and chosen.target != target:
        source, target = target, chosen.target
    corpora = open_corpora(study)
    for system in chosen.systems:
        kept = kept_in("runs", study.name, f"like-for-like-{target}-{system}.csv")
        like = cross_fitting.counts(study, corpora, target, source, system, kept=kept)
        print(cross_fitting.table(like).round(1).to_string(), f"{kept[-1].name} is up to date", sep="\n")


if __name__ == "__main__":
    main()
