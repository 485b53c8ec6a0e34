"""`python -m tools.bench`; see the package."""

from tools.bench import main

main()
