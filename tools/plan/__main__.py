"""`python -m tools.plan`; see the package."""

import sys

from tools.plan import main

sys.exit(main())
