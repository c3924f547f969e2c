"""A node with a bug planted: kvlab's own, but for what `kvlab.sim.mutants` or `SINS` puts in its place.

It runs in the fork of the warm parent. Only `planted` starts it; no user of kvlab can reach it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kvlab.engine.kvlab import run_node as run_whole_node
from kvlab.kv.keeper import Keeper
from kvlab.sim.mutants import MUTANTS, Patch

LATE_S = 0.4


def written_late(original: Any) -> Any:
    """Keeper.end_turn: what was said has left before the log was written, a while before."""
    written_s = 0.0

    def end_turn(keeper: Any) -> Any:
        nonlocal written_s
        if time.monotonic() - written_s > LATE_S:
            written_s = time.monotonic()
            return original(keeper)
        turn, keeper._turn = keeper._turn, []  # noqa: SLF001
        return turn

    return end_turn


SINS: dict[str, tuple[str, tuple[Patch, ...]]] = {
    "written-late": (
        "A write is acknowledged up to 0.4 s before it is written to the log.",
        ((Keeper, "end_turn", written_late),),
    ),
}
"""Bugs that only real processes can have: name -> (in one sentence, patches)."""


def sin_of(name: str) -> str:
    """Return what a planted bug does, in one sentence."""
    return SINS[name][0] if name in SINS else MUTANTS[name].sin


def run_node(payload: dict[str, Any], listen_fd: int) -> int:
    """Plant the bug that the payload names in this process, for good, and run a node."""
    name = payload.pop("planted")
    patches = SINS[name][1] if name in SINS else MUTANTS[name].patches
    make: Callable[[Any], Any]
    for owner, attribute, make in patches:
        setattr(owner, attribute, make(vars(owner)[attribute]))
    return run_whole_node(payload, listen_fd)
