"""At the end all replicas say the same: final reads of one key agree.

It is not a check of what they say (lost is), and it sees only what was read: the more replicas
answered final reads, the more it shows.

1. Final reads of a key, those marked `final`, that returned different values are wrong, unless
   something may have been written between them: a write that had not ended when the first of them
   began, or one of unknown end that wrote a value which was read.
2. Keys with one final read prove nothing and are not judged.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvlab.check.operations import Operations
from kvlab.check.origins import WRITES, in_order
from kvlab.check.verdict import Check, Verdict
from kvlab.check.words import at, name_of, shown
from kvlab.history import Op

NAME = "converged"


def check_converged(history: Operations) -> Check:
    """Judge every key with two final reads or more. O(n) for n operations."""
    judged = 0
    wrong: list[tuple[str, Op, Op]] = []
    for key, ops in history.by_key().items():
        finals = [op for op in ops if op.final and op.f == "get" and op.outcome == "ok"]
        if len(finals) < 2 or _is_open(ops, finals):
            continue
        judged += 1
        other = next((op for op in finals if op.value != finals[0].value), None)
        if other is not None:
            wrong.append((key, finals[0], other))
    if wrong:
        key, one, other = min(wrong, key=lambda found: found[2].start)
        more = f" (and {len(wrong) - 1} more keys)" if len(wrong) > 1 else ""
        nodes = f" from {one.node} and {other.node}" if one.node and other.node else ""
        because = (
            f"key {key}: two final reads{nodes} disagree: {name_of(one)} at {at(one)} found"
            f" {shown(one.value)}, {name_of(other)} at {at(other)} found {shown(other.value)}{more}"
        )
        return Check(
            name=NAME,
            verdict=Verdict.INVALID,
            because=because,
            evidence=in_order([one, other]),
            judged=judged,
            violations=len(wrong),
        )
    if not judged:
        because = "no key has two final reads with nothing written between them"
        return Check(name=NAME, verdict=Verdict.UNKNOWN, because=because)
    because = f"all final reads of {judged} keys agree"
    return Check(name=NAME, verdict=Verdict.VALID, because=because, judged=judged)


def _is_open(ops: Sequence[Op], finals: Sequence[Op]) -> bool:
    """Say whether something may have been written between the final reads of a key."""
    first = min(op.start for op in finals)
    read = {op.value for op in finals}
    for op in ops:
        if op.f not in WRITES or op.outcome == "fail":
            continue
        if op.end is None:
            if op.f in {"incr", "append"} or (None if op.f == "delete" else op.value) in read:
                return True
        elif op.end > first:
            return True
    return False
