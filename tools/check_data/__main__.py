"""`python -m tools.check_data`; see the package."""

import sys

from tools.check_data import main

sys.exit(main())
