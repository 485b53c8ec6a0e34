"""Adapt systems of a study to its target as `adapt` in the study file says: `python -m tools.adapt small`.

Killed and called again it goes on with the next fit. Notebook 12 reads what it writes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nbutils import load_study, open_corpora
from nbutils.analysis import adapting
from nbutils.files import DataError


def main(arguments: Sequence[str] | None = None) -> int:
    """Write runs/STUDY/adaptation/SYSTEM-SOURCE-TARGET.jsonl for each system."""
    parser = argparse.ArgumentParser(prog="python -m tools.adapt", description=main.__doc__)
    parser.add_argument("study", nargs="?", default="demo", help="the name of a study, or a study file")
    parser.add_argument("--systems", nargs="+", help="some of adapt.systems only")
    parser.add_argument("--runs", default="runs", help="where the trained runs lie, if not in runs/")
    chosen = parser.parse_args(arguments)
    try:
        study = load_study(chosen.study if chosen.study.endswith((".yaml", ".yml")) else f"studies/{chosen.study}.yaml")
        if study.adapt is None:
            raise DataError(f"{study.path}: it has no `adapt`; add one, such as adapt: {{target: PN, systems: [crf]}}")
        corpora = open_corpora(study)
        for system in chosen.systems or study.adapt.systems:
            adapting.counts(study, corpora, system, runs=chosen.runs)
            print(f"{system}: {adapting.kept_in(study, system)[-1].name} is up to date", flush=True)
    except (DataError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
