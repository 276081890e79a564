"""``python -m posterior``."""

from posterior.cli import main

main()
