"""Why no order explains one key: the fewest operations that show it, and a sentence.

It does not decide: `impossible` finds what a glance can find, `clash` and `core` explain what zones
and search found out.

1. What is named stands on its own: with an operation that is at odds with what it saw, everything
   that may have written that value, and began in time, is named too. So an order of the whole
   history, cut down to the named operations, would be an order of these. There is none.
2. Where values are made of earlier ones (`incr`, `append`), only gets can be spared, and what began
   after the last get had ended, if nothing but gets can be at odds with the value it finds: not where
   they were told what they made.
3. `core` spares operations as long as its steps last; the sentence says if more might be spared.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec

from kvlab.check.linear_model import MADE, NEVER, Call, Mark, StateOrMark
from kvlab.check.linear_search import Search
from kvlab.check.words import at, name_of, shown
from kvlab.history import Op

BEGINNING = -1  # the place where the absence at the beginning was "written"
LISTED_MAX = 8  # operations spelled out in a sentence; the evidence has them all


class Proof(msgspec.Struct, frozen=True):
    """One key without an order: a sentence, and the operations that show it."""

    because: str
    ops: tuple[Op, ...]


def impossible(key: str, ops: Sequence[Op], calls: Sequence[Call]) -> Proof | None:
    """Find a value that was seen before it can have been written, or after it was replaced.

    `ops` are all operations of the key, failed ones too. O(n log n) for n operations.
    """
    if any(call.f in MADE for call in calls):
        return None
    writers = {value: _Writers(some) for value, some in _by_value(calls).items()}
    replacements = _Replacements(calls)
    for call in calls:
        if not call.sure or isinstance(call.sees, Mark):
            continue
        found = writers.get(call.sees)
        end = found.last_end(call.end) if found else None
        if end is None and call.sees is not None:
            return _unwritten(key, call, ops)
        replaced = replacements.between(BEGINNING if end is None else end, call)
        if replaced is not None:
            return _stale(key, call, found.until(call.end) if found else [], replaced)
    return None


def _by_value(calls: Sequence[Call]) -> dict[StateOrMark, list[Call]]:
    writers: dict[StateOrMark, list[Call]] = {}
    for call in calls:
        if call.writes is not Mark.NOTHING:
            writers.setdefault(call.writes, []).append(call)
    return writers


class _Writers:
    """All that may have written one value, for the question "what may have, before this place?"."""

    def __init__(self, calls: list[Call]) -> None:
        self._calls = calls
        self._starts = [call.start for call in calls]
        self._last_ends: list[int] = []
        last = BEGINNING
        for call in calls:
            last = max(last, call.end)
            self._last_ends.append(last)

    def last_end(self, place: int) -> int | None:
        """Return where the last to end of those ends that began before a place."""
        count = bisect_left(self._starts, place)
        return self._last_ends[count - 1] if count else None

    def until(self, place: int) -> list[Call]:
        """Return those that began before a place."""
        return self._calls[: bisect_left(self._starts, place)]


class _Replacements:
    """The sure writes, for the question "what lies wholly between a place and an operation?"."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = [call for call in calls if call.sure and call.writes is not Mark.NOTHING]
        self._starts = [call.start for call in self._calls]
        self._first_ends: list[Call] = []
        for call in reversed(self._calls):
            first = self._first_ends[-1] if self._first_ends else call
            self._first_ends.append(call if call.end < first.end else first)
        self._first_ends.reverse()

    def between(self, place: int, call: Call) -> Call | None:
        later = bisect_right(self._starts, place)
        if later == len(self._calls):
            return None
        found = self._first_ends[later]
        return found if found.end < call.start else None


def _unwritten(key: str, call: Call, ops: Sequence[Op]) -> Proof:
    where = f"key {key}: {name_of(call.op)} at {at(call.op)} found {shown(_seen(call))}"
    written = [op for op in ops if op.f in {"set", "cas"} and op.value == call.sees]
    for op in written:
        if op.outcome != "fail":
            return Proof(f"{where} before {name_of(op)} began to write it", (call.op, op))
    for op in written:
        reason = op.error or "failed"
        told = f"{name_of(op)} was told had not been written ({reason})"
        return Proof(f"{where}, which {told}", _in_order([op, call.op]))
    return Proof(f"{where}, which nobody wrote", (call.op,))


def _stale(key: str, call: Call, writers: list[Call], replaced: Call) -> Proof:
    gone = replaced.writes is None
    what = "deleted" if gone else f"written {shown(replaced.op.value)}"
    if writers:
        since = f", begun after every {'delete' if call.sees is None else 'write of it'} had ended,"
    else:
        since = ", with no delete before or beside it,"
    because = (
        f"key {key}: {name_of(call.op)} at {at(call.op)} found {shown(_seen(call))}, yet"
        f" {name_of(replaced.op)}{since} had {what} and was acknowledged at {at(replaced.op)},"
        f" before that {call.op.f} began"
    )
    return Proof(because, _in_order([*(one.op for one in writers), replaced.op, call.op]))


class _Cluster:
    """A write and the gets that saw it; without a write it is the absence at the beginning."""

    def __init__(self, write: Call | None, calls: list[Call]) -> None:
        self.write = write
        self.calls = calls
        self.first = min(calls, key=lambda call: call.end)
        self.last = max(calls, key=lambda call: call.start)
        self.first_end = BEGINNING if write is None else self.first.end
        self.last_start = self.last.start

    def precedes(self, other: _Cluster) -> bool:
        """Say whether an operation here ended before one there began."""
        return self.first_end < other.last_start

    def __str__(self) -> str:
        if self.write is not None and self.write.f == "delete":
            return f"what {name_of(self.write.op)} left"
        return shown(None if self.write is None else self.write.op.value)

    def ends(self) -> _Cluster:
        """Return the cluster cut down to its write and the two gets that make its zone."""
        few = {self.first.start, self.last.start}
        kept = [call for call in self.calls if call is self.write or call.start in few]
        return _Cluster(self.write, kept)

    def fewest(self, enough: Callable[[_Cluster], bool]) -> _Cluster:
        """Return a cluster with as few gets as are still enough."""
        kept = self
        for call in dict.fromkeys((self.first.start, self.last.start)):
            fewer = [one for one in kept.calls if one.start != call or one is self.write]
            if fewer and len(fewer) < len(kept.calls):
                smaller = _Cluster(self.write, fewer)
                kept = smaller if enough(smaller) else kept
        return kept


def clash(key: str, calls: Sequence[Call]) -> Proof | None:
    """Explain a simple key (linear_zones says which those are) by two values.

    Each must be older than the other. None if there is no such pair: then the key has an order.
    """
    pair = _pair(_clusters_of(calls))
    if pair is None:
        return None
    one, other = pair[0].ends(), pair[1].ends()
    one = one.fewest(lambda smaller: smaller.precedes(other) and other.precedes(smaller))
    other = other.fewest(lambda smaller: smaller.precedes(one) and one.precedes(smaller))
    reader, before = name_of(one.last.op), name_of(other.first.op)
    if one.write is None:
        because = f"{reader} found nothing, yet {before} ended before it began, with {other} there"
    else:
        because = (
            f"{one} must be older than {other}, for {name_of(one.first.op)} ended before"
            f" {name_of(other.last.op)} began, and newer, for {before} ended before {reader} began"
        )
    return Proof(f"key {key}: {because}", _in_order([x.op for x in one.calls + other.calls]))


def _clusters_of(calls: Sequence[Call]) -> list[_Cluster]:
    gets: dict[StateOrMark, list[Call]] = {}
    for call in calls:
        if call.f == "get":
            gets.setdefault(call.sees, []).append(call)
    clusters = [_Cluster(None, gets[None])] if None in gets else []
    for call in calls:
        if call.f == "get":
            continue
        seen = [] if call.f == "delete" else gets.get(call.writes, [])
        if call.sure or seen:
            clusters.append(_Cluster(call, [call, *seen]))
    return clusters


def _pair(clusters: list[_Cluster]) -> tuple[_Cluster, _Cluster] | None:
    """Return two clusters that must each precede the other, the first of them forward."""
    forward = [one for one in clusters if one.first_end < one.last_start]
    forward.sort(key=lambda one: one.first_end)
    for one, other in pairwise(forward):
        if other.first_end < one.last_start:
            return one, other
    begins = [one.first_end for one in forward]
    for other in clusters:
        place = bisect_left(begins, other.last_start) - 1
        if other.first_end < other.last_start or place < 0:
            continue
        if other.first_end < forward[place].last_start:
            return forward[place], other
    return None


def core(key: str, calls: Sequence[Call], steps: int) -> Proof:
    """Spare operations of a key that the search found without an order, until each is needed."""
    shrink = _Shrink(calls, steps)
    kept = shrink.run()
    many = len(kept) - LISTED_MAX
    listed = "; ".join(_told(call) for call in kept[:LISTED_MAX])
    fewer = "" if shrink.done else " (perhaps fewer would do)"
    because = (
        f"key {key}: no order of these {len(kept)} operations explains what they saw{fewer}:"
        f" {listed}{f'; and {many} more' if many > 0 else ''}"
    )
    return Proof(because, _in_order([call.op for call in kept]))


class _Shrink:
    """Leaves out halves, quarters, ... and at last single operations, while no order exists."""

    def __init__(self, calls: Sequence[Call], steps: int) -> None:
        self.done = False  # nothing more can be spared
        self._calls = list(calls)
        self._steps = steps
        self._made = any(call.f in MADE for call in calls)
        functions = {call.f for call in calls}
        self._blind = functions <= {"get", "incr"} or not functions & {"incr", "cas"}
        self._blind &= all(call.op.result is None for call in calls)
        self._starts = _starts(calls)

    def run(self) -> list[Call]:
        """Return what is left."""
        kept, chunk = self._calls, max(1, len(self._calls) // 2)
        while self._steps > 0:
            before, place = len(kept), len(kept)
            while place > 0 and self._steps > 0:
                low = max(0, place - chunk)
                fewer = self._standing(kept[:low] + kept[place:])
                if len(fewer) < len(kept) and self._wrong(fewer):
                    kept = fewer
                place = min(low, len(kept))
            if chunk == 1 and len(kept) == before:
                self.done = self._steps > 0
                break
            chunk = max(1, chunk // 2)
        return kept

    def _wrong(self, calls: list[Call]) -> bool:
        search = Search(calls)
        result = search.run(self._steps)
        self._steps -= max(1, search.steps)
        return result is False

    def _standing(self, calls: list[Call]) -> list[Call]:
        """Leave out, too, what would not stand on its own (1); put back what must stay (2)."""
        if self._made:
            return self._standing_made(calls)
        while True:
            starts = _starts(calls)
            kept = [call for call in calls if self._has_its_writers(call, starts)]
            if len(kept) == len(calls):
                return kept
            calls = kept

    def _has_its_writers(self, call: Call, starts: dict[StateOrMark, list[int]]) -> bool:
        if isinstance(call.sees, Mark):
            return True
        wanted, have = self._starts.get(call.sees, []), starts.get(call.sees, [])
        return bisect_left(wanted, call.end) == bisect_left(have, call.end)

    def _standing_made(self, calls: list[Call]) -> list[Call]:
        gets = {call.start for call in calls if call.f == "get"}
        last = max((call.end for call in calls if call.f == "get"), default=BEGINNING)
        until = last if self._blind and gets else NEVER
        return [
            call
            for call in self._calls
            if (call.start in gets if call.f == "get" else call.start < until)
        ]


def _starts(calls: Sequence[Call]) -> dict[StateOrMark, list[int]]:
    """Return where the writers of each value begin."""
    return {value: [call.start for call in some] for value, some in _by_value(calls).items()}


def _in_order(ops: Sequence[Op]) -> tuple[Op, ...]:
    distinct = {op.start: op for op in ops}
    return tuple(distinct[start] for start in sorted(distinct))


def _seen(call: Call) -> str | None:
    return None if isinstance(call.sees, Mark) else call.sees


def _told(call: Call) -> str:
    """Say in a few words what an operation did."""
    op, value = call.op, shown(call.op.value)
    if call.f == "get":
        what = f"{'found' if op.f == 'get' else 'could not delete'} {shown(_seen(call))}"
    elif call.f == "cas":
        what = f"changed {shown(op.expected)} to {value}"
    elif call.f == "delete":
        what = "deleted"
    else:
        verb = {"set": "set", "incr": "added", "append": "appended"}[call.f]
        what = f"{verb} {value if op.value is not None else '1'}"
    return f"{op.client} (op {op.op}) {what}{'' if call.sure else ', perhaps'}"
