"""The command line of kvlab with nodes that have a bug planted: python -m kvendure.planted BUG run ...

The laboratory is the true one, but for the engine that it starts nodes with. BUG is a name of
`kvlab.sim.mutants` or of `planted_node.SINS`.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from kvendure.planted_node import sin_of
from kvlab import cli
from kvlab.engine.base import NodeStart, Program
from kvlab.engine.kvlab import KvlabEngine
from kvlab.lab import run
from kvlab.lab.supervisor import Lab


class PlantedEngine(KvlabEngine):
    """Starts nodes that have a bug."""

    preload = (*KvlabEngine.preload, "kvendure.planted_node")
    entry = "kvendure.planted_node:run_node"

    def __init__(self, bug: str) -> None:
        self._bug = bug

    def program(self, start: NodeStart) -> Program:
        """Tell the node its bug."""
        program = super().program(start)
        program.payload["planted"] = self._bug
        return program


def main() -> Any:
    """Run the verb with the laboratory's engine replaced."""
    bug = sys.argv.pop(1)
    sin_of(bug)
    planted = partial(Lab, engine=PlantedEngine(bug))
    setattr(run, "Lab", planted)  # noqa: B010 - the name by which `run` makes its laboratory
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
