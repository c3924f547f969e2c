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

import msgspec
import numpy as np

from kvlab.check.columns import (
    ABSENT,
    DELETE,
    FAIL,
    GET,
    NONE,
    OK,
    SET,
    Bools,
    Columns,
    Ints,
    columns_of,
    pair_numbers,
)
from kvlab.check.operations import Operations
from kvlab.history import MISSING

BEFORE = -1


class Sorted(msgspec.Struct, frozen=True):
    """Keys by what is known of them. A key where nobody saw anything is in none of them."""

    valid: int
    wrong: list[str]
    rest: list[str]  # not simple


class _Parts(msgspec.Struct, frozen=True):
    """The operations of a history and their parts in simple keys."""

    names: list[str]  # of keys, by number
    key: Ints
    value: Ints
    values: int  # how many there are
    start: Ints
    end: Ints
    saw: Bools
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


def sort_keys(history: Operations) -> Sorted:
    """Decide every simple key. O(n log n) for n operations."""
    given = columns_of(history)
    if not len(given):
        return Sorted(0, [], [])
    parts = _parts(given)
    keys = len(parts.names)
    clusters, lone = _clusters(parts)
    rest, seen, wrong = (np.zeros(keys, np.bool_) for _ in range(3))
    seen[parts.key[parts.saw]] = True
    rest[parts.key[parts.other]] = True
    rest[clusters.key[clusters.ambiguous]] = True
    wrong[clusters.key[clusters.unexplained]] = True
    key = np.concatenate((clusters.key, parts.key[lone]))
    first_end = np.concatenate((clusters.first_end, parts.end[lone]))
    last_start = np.concatenate((clusters.last_start, parts.start[lone]))
    # A key that is known to be wrong, or left to the search, needs no zones.
    plain = ~(wrong | rest)[key]
    wrong[_clashes(key[plain], first_end[plain], last_start[plain])] = True
    wrong &= ~rest
    return Sorted(
        int(np.count_nonzero(seen & ~rest & ~wrong)),
        [parts.names[number] for number in np.flatnonzero(wrong)],
        [parts.names[number] for number in np.flatnonzero(rest)],
    )


def _parts(columns: Columns) -> _Parts:
    """Say of every operation what it is to a simple key."""
    f, value = columns.f, columns.value.astype(np.int64)
    start, end = columns.start, columns.end.copy()
    end[end == NONE] = max(start.max(), end.max()) + 1
    sure, failed = columns.outcome == OK, columns.outcome == FAIL
    deletes = f == DELETE
    missing = deletes & failed
    if missing.any():
        told = [number for number, text in enumerate(columns.errors) if text == MISSING]
        missing &= np.isin(columns.error, told)
    value[deletes] = ABSENT
    saw = ((f == GET) & sure) | missing
    key = columns.key.astype(np.int64)
    return _Parts(
        names=columns.keys,
        key=key,
        value=value,
        values=len(columns.values),
        start=start,
        end=end,
        saw=saw,
        wrote=(f == SET) & ~failed,
        sure=sure,
        other=(f > DELETE) & ~failed,
        deletes=deletes & ~failed,
    )


def _clusters(parts: _Parts) -> tuple[_Clusters, Ints]:
    """Return the clusters of the values that were seen, and the writes that stand for themselves."""
    start, end = parts.start, parts.end
    saw, writes = np.flatnonzero(parts.saw), np.flatnonzero(parts.wrote)
    rows = np.concatenate((saw, writes))
    number, count = pair_numbers(parts.key[rows], parts.value[rows], len(parts.names), parts.values)
    members, cluster = number[: len(saw)], number[len(saw) :]
    key = np.zeros(count, np.int64)
    is_seen, nothing = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    key[members] = parts.key[saw]
    is_seen[members] = True
    nothing[members] = parts.value[saw] == ABSENT
    first_end = np.full(count, np.iinfo(np.int64).max)
    last_start = np.full(count, BEFORE)
    np.minimum.at(first_end, members, end[saw])
    np.maximum.at(last_start, members, start[saw])

    seen = is_seen[cluster]
    cluster, writers = cluster[seen], writes[seen]
    written = np.bincount(cluster, minlength=count) + nothing
    begun = np.full(count, BEFORE)
    begun[cluster] = start[writers]  # where there are several, the cluster is ambiguous anyway
    unexplained = (written == 0) | (first_end < begun)
    np.minimum.at(first_end, cluster, end[writers])
    np.maximum.at(last_start, cluster, start[writers])
    first_end[nothing] = BEFORE

    # A delete leaves what was at the beginning, so that a get of it has several explanations.
    deleted = np.zeros(len(parts.names), np.bool_)
    deleted[parts.key[parts.deletes]] = True
    ambiguous = (written > 1) | (nothing & deleted[key])
    lone = np.concatenate((writes[~seen], np.flatnonzero(parts.deletes)))
    lone = lone[parts.sure[lone]]
    clusters = _Clusters(
        key[is_seen],
        first_end[is_seen],
        last_start[is_seen],
        unexplained[is_seen],
        ambiguous[is_seen],
    )
    return clusters, lone


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
