"""`python -m loadtest.bench`: the same as `weir bench --`."""

from __future__ import annotations

import sys

from loadtest.bench.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
