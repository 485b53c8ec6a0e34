"""Does a disease-name recogniser survive a change of hospital? The helper module behind the notebooks.

corpus -> split -> fit -> predict -> predictions -> scores -> tables and figures; see README.md.
"""

from pathlib import Path

__version__ = "0.1.0"

ROOT = Path(__file__).resolve().parent.parent  # the repository: studies, data, runs and models count from here
