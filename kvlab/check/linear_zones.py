"""Which keys have a linear order, decided for all simple keys at once with arrays.

It explains nothing (linear_proof does) and leaves the keys that are not simple to a search.
The test is that of Gibbons and Korach, "Testing shared memories" (1997).

1. A key is simple if it has only gets, sets and deletes, and every value that was seen has at most
   one operation that may have written it; the absence at the beginning counts as one. Values that
   nobody saw may repeat: each such write stands for itself.
2. A cluster is a write and the gets that saw it. Its zone goes from its first end to its last
   start. If the end comes first, the value stood all the time between: the zone is *forward*.
   Otherwise one point between them is enough for the whole cluster: it is *backward*.
3. A simple key has a linear order exactly when no get saw a value that nobody may have written or
   ended before the write began, no two forward zones overlap, and no backward zone lies inside a
   forward one. The absence at the beginning was written before everything.
4. Writes of unknown end that nobody saw may not have happened, and are left out.

Numbers: places of events count from 0; `BEFORE` is before all. A key's zones are put on one line
with those of all others, each key on a stretch of its own, so that one sort serves all.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import count as counter
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from kvlab.history import MISSING, Function, History, Op, Outcome

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

FUNCTIONS: dict[Function, int] = {"get": 0, "set": 1, "delete": 2, "cas": 3, "incr": 4, "append": 5}
OUTCOMES: dict[Outcome, int] = {"ok": 0, "fail": 1, "info": 2}
GET, SET, DELETE = 0, 1, 2
OK, FAIL = 0, 1
BEFORE = -1
ABSENT = 0  # the number of None among the values
BLOCK_OPS = 1024


class Sorted(msgspec.Struct, frozen=True):
    """Keys by what is known of them. A key where nobody saw anything is in none of them."""

    valid: int
    wrong: list[str]
    rest: list[str]  # not simple


class _Columns(msgspec.Struct, frozen=True):
    """The operations as arrays; `saw` and `wrote` mark those that are part of simple keys."""

    names: list[str]  # of keys, by number
    key: Ints
    code: Ints  # of key and value together
    start: Ints
    end: Ints
    saw: Bools
    saw_nothing: Bools
    wrote: Bools
    sure: Bools
    other: Bools  # functions that no simple key has
    deletes: Bools


class _Clusters(msgspec.Struct, frozen=True):
    """Every (key, value) that was seen: its zone, and what is wrong with it."""

    key: Ints
    first_end: Ints
    last_start: Ints
    unexplained: Bools
    ambiguous: Bools


def sort_keys(history: History) -> Sorted:
    """Decide every simple key. O(n log n) for n operations."""
    if not history.ops:
        return Sorted(0, [], [])
    columns = _columns(history.ops)
    keys = len(columns.names)
    clusters, lone = _clusters(columns)
    rest, seen, wrong = (np.zeros(keys, np.bool_) for _ in range(3))
    seen[columns.key[columns.saw]] = True
    rest[columns.key[columns.other]] = True
    rest[clusters.key[clusters.ambiguous]] = True
    wrong[clusters.key[clusters.unexplained]] = True
    key = np.concatenate((clusters.key, columns.key[lone]))
    first_end = np.concatenate((clusters.first_end, columns.end[lone]))
    last_start = np.concatenate((clusters.last_start, columns.start[lone]))
    # A key that is known to be wrong, or left to the search, needs no zones.
    plain = ~(wrong | rest)[key]
    wrong[_clashes(key[plain], first_end[plain], last_start[plain])] = True
    wrong &= ~rest
    return Sorted(
        int(np.count_nonzero(seen & ~rest & ~wrong)),
        [columns.names[number] for number in np.flatnonzero(wrong)],
        [columns.names[number] for number in np.flatnonzero(rest)],
    )


def _columns(ops: tuple[Op, ...]) -> _Columns:
    """Turn operations into arrays, in blocks small enough to stay in the processor's cache."""
    count = len(ops)
    key_ids: defaultdict[str, int] = defaultdict(counter().__next__)
    value_ids: defaultdict[str | None, int] = defaultdict(counter().__next__)
    assert value_ids[None] == ABSENT
    key, value, start, end = (np.empty(count, np.int64) for _ in range(4))
    f, outcome = np.empty(count, np.int8), np.empty(count, np.int8)
    for low in range(0, count, BLOCK_OPS):
        block = ops[low : low + BLOCK_OPS]
        part = slice(low, low + len(block))
        key[part] = [key_ids[op.key] for op in block]
        value[part] = [value_ids[op.value] for op in block]
        f[part] = [FUNCTIONS[op.f] for op in block]
        outcome[part] = [OUTCOMES[op.outcome] for op in block]
        start[part] = [op.start for op in block]
        end[part] = [BEFORE if op.end is None else op.end for op in block]
    end[end == BEFORE] = max(start.max(), end.max()) + 1
    sure, failed = outcome == OK, outcome == FAIL
    missing = np.zeros(count, np.bool_)
    for number in np.flatnonzero((f == DELETE) & failed):
        missing[number] = ops[number].error == MISSING
    value[f == DELETE] = ABSENT
    saw = ((f == GET) & sure) | missing
    return _Columns(
        names=list(key_ids),
        key=key,
        code=key * len(value_ids) + value,
        start=start,
        end=end,
        saw=saw,
        saw_nothing=saw & (value == ABSENT),
        wrote=(f == SET) & ~failed,
        sure=sure,
        other=(f > DELETE) & ~failed,
        deletes=(f == DELETE) & ~failed,
    )


def _clusters(columns: _Columns) -> tuple[_Clusters, Ints]:
    """Return the clusters of the values that were seen, and the writes that stand for themselves."""
    code, start, end = columns.code, columns.start, columns.end
    codes, members = np.unique(code[columns.saw], return_inverse=True)
    count = len(codes)
    key, nothing = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    key[members] = columns.key[columns.saw]
    nothing[members] = columns.saw_nothing[columns.saw]
    first_end = np.full(count, np.iinfo(np.int64).max)
    last_start = np.full(count, BEFORE)
    np.minimum.at(first_end, members, end[columns.saw])
    np.maximum.at(last_start, members, start[columns.saw])

    writes = np.flatnonzero(columns.wrote)
    cluster = np.searchsorted(codes, code[writes])
    seen = cluster < count
    seen[seen] = codes[cluster[seen]] == code[writes[seen]]
    cluster, writers = cluster[seen], writes[seen]
    written = np.bincount(cluster, minlength=count) + nothing
    begun = np.full(count, BEFORE)
    begun[cluster] = start[writers]  # where there are several, the cluster is ambiguous anyway
    unexplained = (written == 0) | (first_end < begun)
    np.minimum.at(first_end, cluster, end[writers])
    np.maximum.at(last_start, cluster, start[writers])
    first_end[nothing] = BEFORE

    # A delete leaves what was at the beginning, so that a get of it has several explanations.
    deleted = np.zeros(len(columns.names), np.bool_)
    deleted[columns.key[columns.deletes]] = True
    ambiguous = (written > 1) | (nothing & deleted[key])
    lone = np.concatenate((writes[~seen], np.flatnonzero(columns.deletes)))
    lone = lone[columns.sure[lone]]
    return _Clusters(key, first_end, last_start, unexplained, ambiguous), lone


def _clashes(key: Ints, first_end: Ints, last_start: Ints) -> Ints:
    """Return the keys whose zones exclude each other."""
    if not len(key):
        return key
    stretch = max(int(first_end.max()), int(last_start.max())) + 2
    low, high = key * stretch + first_end + 1, key * stretch + last_start + 1
    forward = low < high
    order = np.argsort(low[forward], kind="stable")
    begins, ends = low[forward][order], high[forward][order]
    overlap = begins[1:] < ends[:-1]
    # A backward zone can only lie inside the last forward zone that begins before it.
    low_back, high_back = high[~forward], low[~forward]
    place = np.searchsorted(begins, low_back) - 1
    inside = place >= 0
    inside[inside] = high_back[inside] < ends[place[inside]]
    return np.unique(np.concatenate((begins[1:][overlap] // stretch, low_back[inside] // stretch)))
