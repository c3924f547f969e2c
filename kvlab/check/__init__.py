"""Was it correct? Histories in, verdicts out.

It is not a report: it gives one sentence and the operations that prove it. Pure.

    verdict     VALID, INVALID, UNKNOWN, and the result of one check
    operations  what a checker is given; columns, reading, pairing: millions of operations as arrays
    lost        acknowledged writes are there at the end, and what was replaced does not come back
    reads       reads during the run return only what somebody had written
    fresh       with r + w > n: reads tell no older version than writes acknowledged before them
    linear      with a linearizable store: one order explains all that was seen of each key
    sessions    four guarantees that a client may be given, each judged alone
    staleness   how far behind gets were, in versions and time, and how likely
    availability  how long nothing succeeded; liveness: whether anything does after the last fault
    converged   final reads of one key agree
    elements, counter, appended, cart    sets, counters, growing texts and lists, by their workloads
    logs        nothing that nodes logged looks like a defect
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kvlab.check.appended import check_append
from kvlab.check.availability import check_availability, check_liveness
from kvlab.check.cart import check_cart
from kvlab.check.converged import check_converged
from kvlab.check.counter import check_counter
from kvlab.check.elements import check_set
from kvlab.check.fresh import check_fresh
from kvlab.check.linear import check_linear
from kvlab.check.lost import check_lost
from kvlab.check.operations import Operations
from kvlab.check.reads import check_reads
from kvlab.check.sessions import (
    GUARANTEES,
    check_monotonic_reads,
    check_monotonic_writes,
    check_read_your_writes,
    check_writes_follow_reads,
)
from kvlab.check.staleness import check_staleness
from kvlab.check.verdict import Check, Verdict, worst

CHECKERS: dict[str, Callable[..., Check]] = {
    "lost": check_lost,
    "reads": check_reads,
}
"""What every store promises: they run by default."""

EXTRA: dict[str, Callable[..., Check]] = {
    "converged": check_converged,
    "fresh": check_fresh,
    "linear": check_linear,
    "read-your-writes": check_read_your_writes,
    "monotonic-reads": check_monotonic_reads,
    "monotonic-writes": check_monotonic_writes,
    "writes-follow-reads": check_writes_follow_reads,
    "staleness": check_staleness,
    "availability": check_availability,
    "liveness": check_liveness,
    "set": check_set,
    "counter": check_counter,
    "append": check_append,
    "cart": check_cart,
}
"""What only some stores promise, or only with some settings: they run when asked for."""

GROUPS = {"sessions": tuple(one.name for one in GUARANTEES)}
"""Names for several checks together."""

SUMMARIES = {
    "lost": "every acknowledged write is there at the end, and what was replaced stays away",
    "reads": "no get returned what nobody had written",
    "converged": "final reads of one key agree",
    "fresh": "no get is older than a write acknowledged before it, by versions (r + w > n)",
    "linear": "one order of all operations explains what was seen of each key",
    "read-your-writes": "no get is older than what its client had written",
    "monotonic-reads": "no get is older than what its client had seen",
    "monotonic-writes": "no write is ordered before one that its client had made earlier",
    "writes-follow-reads": "no write is ordered before what its client had seen",
    "staleness": "gets are behind by few versions and for a short time (figures; bounds if given)",
    "availability": "something always succeeded (figures; bounds if given)",
    "liveness": "something succeeds after the last fault",
    "set": "every key that was written once and acknowledged is there at the end, and no other",
    "counter": "every number seen lies between what was certainly and what was possibly added",
    "append": "every part that was appended is there once, in order, and texts only grow",
    "cart": "no acknowledged thing is missing from a list that clients read and write back",
    "logs": "nothing that nodes logged looks like a defect (run directories)",
}
"""What each check asks, in one line; `logs` reads no history and is not run by `run_checks`."""

Options = Mapping[str, Mapping[str, Any]]
"""Arguments for checkers, by the name of the check: {"lost": {"clock_error_us": 1000}}."""

__all__ = [
    "CHECKERS",
    "EXTRA",
    "GROUPS",
    "SUMMARIES",
    "Check",
    "Options",
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
