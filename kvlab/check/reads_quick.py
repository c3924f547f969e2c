"""Keys where no read can be wrong, found for all of them at once with arrays.

It explains nothing: reads looks at the keys that are left, one by one.
"""

from __future__ import annotations

import numpy as np

from kvlab.check.columns import (
    ABSENT,
    APPEND,
    CAS,
    FAIL,
    GET,
    INCR,
    OK,
    SET,
    columns_of,
    pair_numbers,
)
from kvlab.check.operations import Operations

NEVER = 2**62


def clear_keys(history: Operations) -> tuple[int, list[str]]:
    """Return how many reads are right on keys without a wrong one, and the other keys. O(n)."""
    columns = columns_of(history)
    key, value, f = columns.key.astype(np.int64), columns.value.astype(np.int64), columns.f
    made = np.zeros(len(columns.keys), np.bool_)
    made[key[np.isin(f, (INCR, APPEND))]] = True
    some = (value != ABSENT) & ~made[key]
    gets = np.flatnonzero(some & (f == GET) & (columns.outcome == OK))
    writes = np.flatnonzero(some & np.isin(f, (SET, CAS)) & (columns.outcome != FAIL))
    rows = np.concatenate((gets, writes))
    number, count = pair_numbers(key[rows], value[rows], len(columns.keys), len(columns.values))
    begun = np.full(count, NEVER)
    np.minimum.at(begun, number[len(gets) :], columns.start[writes])
    wrong = np.zeros(len(columns.keys), np.bool_)
    wrong[key[gets[begun[number[: len(gets)]] > columns.end[gets]]]] = True
    judged = int(np.count_nonzero(~wrong[key[gets]]))
    return judged, [columns.keys[at] for at in np.flatnonzero(wrong)]
