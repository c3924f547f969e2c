"""Was it correct? Histories in, verdicts out.

It is not a report: it gives one sentence and the operations that prove it. Pure.

    verdict   VALID, INVALID, UNKNOWN, and the result of one check
    lost      acknowledged writes are there at the end, and what was replaced does not come back
    reads     reads during the run return only what somebody had written
"""

from __future__ import annotations

from collections.abc import Callable

from kvlab.check.lost import check_lost
from kvlab.check.reads import check_reads
from kvlab.check.verdict import Check, Verdict, worst
from kvlab.history import History

CHECKERS: dict[str, Callable[[History], Check]] = {
    "lost": check_lost,
    "reads": check_reads,
}

__all__ = ["CHECKERS", "Check", "Verdict", "check_lost", "check_reads", "run_checks", "worst"]


def run_checks(history: History, names: tuple[str, ...] = tuple(CHECKERS)) -> list[Check]:
    """Run the checkers of these names, in this order."""
    return [CHECKERS[name](history) for name in names]
