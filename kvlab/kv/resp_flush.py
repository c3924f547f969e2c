"""FLUSHALL and FLUSHDB: a walk through all ranges that deletes every key it finds. No I/O, no order.

Nothing is dropped: each key is deleted as DEL does it, so nodes that cannot be reached learn of it
later. The command goes on as batch after batch of its connection: each ends before the next begins,
and other clients come between.

A walk goes once through each copy of the ranges, as one copy may lack what was just acknowledged.
What is written meanwhile may stay; so may what only nodes hold that cannot be reached.

Some ranges are looked at together, so that a walk through empty ones is quick: the fewer keys they
have, the more.

Invariants:

1. At most RANGES_MAX pages of a scan are being deleted at a time, and few where they are full.
2. OK means that every key that was found was deleted, and every range was looked at.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from kvlab.kv import resp_linear
from kvlab.kv.resp_answer import Deleted, RespBatch, failure
from kvlab.kv.scan import PLACE_BITS, cursor_at
from kvlab.wire.peer import DELETE
from kvlab.wire.resp_encode import OK, error

if TYPE_CHECKING:
    from kvlab.kv.resp_client import RespClient

RANGES_MAX = 64  # looked at together
STEP_KEYS = 250  # more at once, and fewer ranges are looked at next
_EVENTUAL = 0


class Flush(list[bytes]):
    """A request to flush that has begun: where its walk is."""

    def __init__(self, args: list[bytes], walks: list[tuple[int, int]]) -> None:
        super().__init__(args)
        self.walks = walks  # (namespace, number of the copy) that are left; the last is under way
        self.cursors: list[int] = []  # of the walk under way: a place in each range that is left
        self.width = 1  # ranges that are looked at together
        self.deleted = 0
        self.step: Step | None = None  # that was begun last


class Step(Deleted):
    """The keys of one step. It has no reply; the last of the steps is followed by that."""

    def __init__(self) -> None:
        super().__init__(0)
        self.problem = ""  # why the ranges could not be looked at

    def encode(self, protocol: int) -> bytes:  # noqa: ARG002
        """Return nothing."""
        return b""


def flush(client: RespClient, batch: RespBatch, args: list[bytes], now_us: int) -> bytes | None:
    """FLUSHALL or FLUSHDB [ASYNC | SYNC]; either way the reply comes when all was done."""
    if not isinstance(args, Flush):
        if len(args) > 2 or (len(args) == 2 and args[1].upper() not in (b"ASYNC", b"SYNC")):
            return error("ERR syntax error")
        whole = args[0].upper() == b"FLUSHALL"
        # It begins when all that was asked before it has ended.
        namespaces = [_EVENTUAL, resp_linear.DB] if whole else [client.db]
        copies = range(client.node.state.settings.replication)
        _again(client, Flush(args, [(ns, copy) for ns in namespaces for copy in copies]))
        return None
    if args.step is not None and (reply := _ended(args, args.step)):
        return reply
    state = client.node.state
    if state.map is None or not state.is_open:
        why = f"{state.why_closed} {client.node.membership.starting()}"
    elif client.node.scans.is_full:
        why = "BUSY too many scans are under way; try again later"
    elif not args.walks:
        return OK
    else:
        _begin(client, batch, args, now_us)
        _again(client, args)
        return None
    return _failed(args, why, 0)


def _again(client: RespClient, rest: Flush) -> None:
    client.again, client.turn = rest, True


def _begin(client: RespClient, batch: RespBatch, flush_: Flush, now_us: int) -> None:
    """Look for keys, and delete them."""
    node = client.node
    step = flush_.step = Step()
    batch.begin(step)
    batch.replies.append(step)
    ns, copy = flush_.walks[-1]
    if not flush_.cursors:
        flush_.cursors = [cursor_at(index) for index in range(node.state.settings.range_count)]
    cursors = flush_.cursors[-flush_.width :]
    del flush_.cursors[-flush_.width :]

    def found(cursor: int, following: int, keys: list[bytes] | None) -> None:
        if keys is None:
            step.problem = "UNAVAILABLE no replica of a range can be reached"
        elif following and following < cursor_at((cursor >> 1 >> PLACE_BITS) + 1):
            flush_.cursors.append(following)
        for key in keys or ():
            step.outcomes.append(step.start)
            if len(step.outcomes) > 1:
                batch.replies.append(step)
            if ns == resp_linear.DB:
                resp_linear.operate(client, batch, key, DELETE, node.state.now_us)
            else:
                node.coordinator.operate(batch, key, DELETE, node.state.now_us)
        node.quorum.end(batch)

    batch.pending += len(cursors)
    for cursor in cursors:
        node.scans.begin(ns, cursor, STEP_KEYS, partial(found, cursor), now_us, copy=copy, ranges=1)


def _ended(flush_: Flush, step: Step) -> bytes:
    """Take what the last step did, and go to the next; return the error if it failed."""
    failures = step.failures
    flush_.deleted += sum(
        bool(outcome) for place, outcome in enumerate(step.outcomes) if place not in failures
    )
    unsure = sum(code == "UNKNOWN" for code, _ in failures.values())
    why = step.problem or " ".join(next(iter(failures.values()), ()))
    if why:
        return _failed(flush_, why, unsure)
    if len(step.outcomes) > STEP_KEYS:
        flush_.width = max(1, flush_.width // 2)
    elif 2 * len(step.outcomes) < STEP_KEYS:
        flush_.width = min(RANGES_MAX, 2 * flush_.width)
    if not flush_.cursors:
        flush_.walks.pop()
    return b""


def _failed(flush_: Flush, why: str, unsure: int) -> bytes:
    """Return the error of a walk that ends early; one that has deleted something says so."""
    if flush_.deleted or unsure:
        told = f"{flush_.deleted} keys were deleted, {unsure} may have been, others are left: {why}"
        return failure("UNKNOWN", told)
    return failure(*why.split(" ", 1))
