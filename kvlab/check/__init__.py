"""Was it correct? Histories in, verdicts out.

It is not a report: it gives one sentence and the operations that prove it. Pure.

    verdict     VALID, INVALID, UNKNOWN, and the result of one check
    operations  what a checker is given; columns, reading, pairing: millions of operations as arrays
    lost        acknowledged writes are there at the end, and what was replaced does not come back
    reads       reads during the run return only what somebody had written
    fresh       with r + w > n: reads tell no older version than writes acknowledged before them
    linear      with a linearizable store: one order explains all that was seen of each key
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kvlab.check.fresh import check_fresh
from kvlab.check.linear import check_linear
from kvlab.check.lost import check_lost
from kvlab.check.operations import Operations
from kvlab.check.reads import check_reads
from kvlab.check.verdict import Check, Verdict, worst

CHECKERS: dict[str, Callable[..., Check]] = {
    "lost": check_lost,
    "reads": check_reads,
}
"""What every store promises: they run by default."""

EXTRA: dict[str, Callable[..., Check]] = {
    "fresh": check_fresh,
    "linear": check_linear,
}
"""What only some stores promise, or only with some settings: they run when asked for."""

SUMMARIES = {
    "lost": "every acknowledged write is there at the end, and what was replaced stays away",
    "reads": "no read returned what nobody had written",
    "fresh": "with r + w > n: no read is older than a write acknowledged before it, by versions",
    "linear": "one order of all operations explains what was seen of each key",
}
"""What each check asks, in one line."""

Options = Mapping[str, Mapping[str, Any]]
"""Arguments for checkers, by the name of the check: {"lost": {"clock_error_us": 1000}}."""

__all__ = [
    "CHECKERS",
    "EXTRA",
    "SUMMARIES",
    "Check",
    "Verdict",
    "check_fresh",
    "check_linear",
    "check_lost",
    "check_reads",
    "run_checks",
    "worst",
]


def run_checks(
    history: Operations, names: tuple[str, ...] = tuple(CHECKERS), options: Options | None = None
) -> list[Check]:
    """Run the checkers of these names, in this order; EXTRA ones too where they are named."""
    known = CHECKERS | EXTRA
    given = options or {}
    return [known[name](history, **given.get(name, {})) for name in names]
