"""``python -m medfuse.cli``."""

from medfuse.cli.app import main

main()
