"""What keys held before a history began, as operations in front of it.

It judges nothing: to every checker these are writes like others, by a client of their own.

1. Each key is written once, and acknowledged, before the first event. Places are moved up by two for
   each key, so that they stay unique; times are those of the first event.
2. A key that is only counted or only appended to is counted or appended to once more, so that it stays
   one; any other is set.
"""

from __future__ import annotations

import re

import msgspec
import numpy as np

from kvlab.check.columns import APPEND, GET, INCR, NONE, OK, SET, Columns, Table

CLIENT = "initially"
_NUMBER = re.compile(r"-?\d{1,18}")


def with_initial(table: Table, value: str) -> Table:
    """Return the operations of a table after one that gives every key this value."""
    columns = table.columns
    count = len(columns.keys)
    if not count or not len(columns):
        return table
    # A text has one number: equal values must be equal numbers.
    values = columns.values if value in columns.values else [*columns.values, value]
    first = _rows(columns, value, values.index(value), count)
    shift = 2 * count
    later = {
        "start": columns.start + shift,
        "end": np.where(columns.end == NONE, NONE, columns.end + shift),
    }
    arrays = {
        name: np.concatenate((first[name], later.get(name, getattr(columns, name))))
        for name in first
    }
    return Table(
        msgspec.structs.replace(
            columns, values=values, clients=[*columns.clients, CLIENT], **arrays
        )
    )


def _rows(columns: Columns, value: str, number: int, count: int) -> dict[str, np.ndarray]:
    """Return the columns of the operations in front."""
    f = np.full(count, SET, np.int8)
    only = {code: np.ones(count, np.bool_) for code in (INCR, APPEND)}
    for code, is_only in only.items():
        is_only[columns.key[~np.isin(columns.f, (code, GET))]] = False
        used = np.zeros(count, np.bool_)
        used[columns.key[columns.f == code]] = True
        if code == APPEND or _NUMBER.fullmatch(value):
            f[is_only & used] = code
    begins_us = int(columns.start_us.min())
    zeros = np.zeros(count, np.int32)
    return {
        "key": np.arange(count, dtype=np.int32),
        "value": np.full(count, number, np.int32),
        "expected": zeros,
        "result": zeros,
        "client": np.full(count, len(columns.clients), np.int32),
        "node": zeros,
        "error": zeros,
        "f": f,
        "outcome": np.full(count, OK, np.int8),
        "op": np.arange(count, dtype=np.int64),
        "start": np.arange(0, 2 * count, 2, dtype=np.int64),
        "end": np.arange(1, 2 * count, 2, dtype=np.int64),
        "start_us": np.full(count, begins_us, np.int64),
        "end_us": np.full(count, begins_us, np.int64),
        "version": np.zeros(count, columns.version.dtype),
        "final": np.zeros(count, np.bool_),
        "degraded": np.zeros(count, np.bool_),
    }
