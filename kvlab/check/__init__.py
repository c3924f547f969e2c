"""Was it correct? Histories in, verdicts out.

It is not a report: it gives one sentence and the operations that prove it. Pure.

    verdict   VALID, INVALID, UNKNOWN, and the result of one check
    lost      acknowledged writes are there at the end, and what was replaced does not come back
    reads     reads during the run return only what somebody had written
    fresh     with r + w > n: reads tell no older version than writes acknowledged before them
    linear    with a linearizable store: one order explains all that was seen of each key
"""

from __future__ import annotations

from collections.abc import Callable

from kvlab.check.fresh import check_fresh
from kvlab.check.linear import check_linear
from kvlab.check.lost import check_lost
from kvlab.check.reads import check_reads
from kvlab.check.verdict import Check, Verdict, worst
from kvlab.history import History

CHECKERS: dict[str, Callable[[History], Check]] = {
    "lost": check_lost,
    "reads": check_reads,
}
"""What every store promises: they run by default."""

EXTRA: dict[str, Callable[[History], Check]] = {
    "fresh": check_fresh,
    "linear": check_linear,
}
"""What only some stores promise, or only with some settings: they run when asked for."""

__all__ = [
    "CHECKERS",
    "EXTRA",
    "Check",
    "Verdict",
    "check_fresh",
    "check_linear",
    "check_lost",
    "check_reads",
    "run_checks",
    "worst",
]


def run_checks(history: History, names: tuple[str, ...] = tuple(CHECKERS)) -> list[Check]:
    """Run the checkers of these names, in this order; EXTRA ones too where they are named."""
    known = CHECKERS | EXTRA
    return [known[name](history) for name in names]
