"""`python -m kvlab.live`: one node as an ordinary server."""

from __future__ import annotations

import sys

from kvlab.live.node import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
