"""One run of a matrix, as a process of its own: python -m kvlab.cli.matrix_cell PARENT ARGS...

It is the command line, except that it is asked to end when its parent ends, however that ends.
"""

from __future__ import annotations

import signal
import sys

from kvlab.cli import main
from kvlab.lab.zygote import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]), signal.SIGTERM)
    raise SystemExit(main(sys.argv[2:]))
