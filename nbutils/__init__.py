"""Does a disease-name recogniser survive a change of hospital? The helper module behind the notebooks.

corpus -> split -> fit -> predict -> predictions -> scores -> tables and figures; see README.md.
"""

import os
from pathlib import Path

# Intel's MKL then sums in one order on every x86 processor with AVX2: scores of another machine come closer, though not
# to the last digit (docs/outputs.md); on AMD's its products of a few rows are also nearly twice as fast (`make bench`).
# Read when torch first multiplies.
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")

__version__ = "0.1.0"

ROOT = Path(__file__).resolve().parent.parent  # the repository: studies, data, runs and models count from here
