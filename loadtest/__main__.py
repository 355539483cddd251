"""`python -m loadtest`: the load test where no command is installed."""

from __future__ import annotations

import sys

from loadtest.cli import main

if __name__ == "__main__":
    sys.exit(main())
