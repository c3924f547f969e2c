"""Operations as columns of numbers: a small part of the memory, and ready for arrays.

It reads no file (reading.py does) and judges nothing. Texts are kept once each and named by their
place in a list.

1. Rows are in the order of invocations; a `Table` gives the same operations as a `History` would.
2. `Table` makes an `Op` when it is asked for and keeps none: going through its keys needs the memory
   of the largest key.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
from itertools import count as counter
from typing import Any, TypeAlias, overload

import msgspec
import numpy as np
import numpy.typing as npt

from kvlab.check.operations import Operations
from kvlab.history import Function, Op, Outcome

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Ids: TypeAlias = npt.NDArray[np.int32]
Codes: TypeAlias = npt.NDArray[np.int8]

FUNCTIONS: tuple[Function, ...] = ("get", "set", "delete", "cas", "incr", "append")
OUTCOMES: tuple[Outcome, ...] = ("ok", "fail", "info")
GET, SET, DELETE, CAS, INCR, APPEND = range(len(FUNCTIONS))
OK, FAIL, INFO = range(len(OUTCOMES))
F_CODES = {name: code for code, name in enumerate(FUNCTIONS)}
OUTCOME_CODES = {name: code for code, name in enumerate(OUTCOMES)}
NONE = -1  # a place or time that there is not
ABSENT = 0  # the number of None among the values, and of "" among nodes and errors
BLOCK_OPS = 1024  # turned into arrays at a time, so that they stay in the processor's cache


class Columns(msgspec.Struct, frozen=True):
    """Operations as arrays of one length; a row is an operation, as in `history.Op`.

    `key`, `value`, `expected`, `result`, `client`, `node` and `error` are places in the lists of texts.
    `end` and `end_us` are NONE where there is none.
    """

    keys: list[str]
    values: list[str | None]
    clients: list[str]
    nodes: list[str]
    errors: list[str]
    key: Ids
    value: Ids
    expected: Ids
    client: Ids
    node: Ids
    error: Ids
    f: Codes
    outcome: Codes
    op: Ints
    start: Ints
    end: Ints
    start_us: Ints
    end_us: Ints
    version: npt.NDArray[Any]  # int64, or Python's integers where one is beyond 63 bits
    final: Bools
    degraded: Bools
    result: Ids  # a place among the values, ABSENT where none was told

    def __len__(self) -> int:
        return len(self.key)


class Names:
    """Texts by numbers, counted in the order in which they came; `first` ones are numbered first."""

    def __init__(self, *first: Any) -> None:
        self.number: defaultdict[Any, int] = defaultdict(counter().__next__)
        for text in first:
            self.number[text]

    def texts(self) -> list[Any]:
        """Return the texts; the place of each is its number."""
        return list(self.number)


class Table:
    """Operations kept as columns."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    @property
    def ops(self) -> Sequence[Op]:
        """Return all operations, each made when it is looked at."""
        return _Rows(self.columns, np.arange(len(self.columns)))

    def by_key(self) -> Mapping[str, Sequence[Op]]:
        """Return the operations of each key, made when the key is looked up."""
        return _Keys(self.columns)

    def at(self, places: Sequence[int]) -> list[Op]:
        """Return the operations whose invocations stand at these places of the history."""
        rows = np.searchsorted(self.columns.start, np.array(places, np.int64))
        return ops_of(self.columns, rows)


class _Rows(Sequence[Op]):
    def __init__(self, columns: Columns, rows: Ints) -> None:
        self._columns = columns
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Op: ...
    @overload
    def __getitem__(self, place: slice) -> list[Op]: ...
    def __getitem__(self, place: int | slice) -> Op | list[Op]:
        if isinstance(place, slice):
            return ops_of(self._columns, self._rows[place])
        return ops_of(self._columns, self._rows[[place]])[0]

    def __iter__(self) -> Iterator[Op]:
        for low in range(0, len(self._rows), BLOCK_OPS):
            yield from ops_of(self._columns, self._rows[low : low + BLOCK_OPS])


class _Keys(Mapping[str, Sequence[Op]]):
    """Rows by key: sorted once, cut where the key changes."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._order = np.argsort(columns.key, kind="stable")
        counts = np.bincount(columns.key, minlength=len(columns.keys))
        self._bounds = np.concatenate(([0], np.cumsum(counts)))
        self._number = {name: number for number, name in enumerate(columns.keys)}

    def __len__(self) -> int:
        return len(self._number)

    def __iter__(self) -> Iterator[str]:
        return iter(self._number)

    def __getitem__(self, key: str) -> Sequence[Op]:
        number = self._number[key]
        low, high = self._bounds[number : number + 2]
        return ops_of(self._columns, self._order[low:high])

    def items(self) -> ItemsView[str, Sequence[Op]]:
        """Return keys with their operations."""
        return _Items(self)

    def values(self) -> ValuesView[Sequence[Op]]:
        """Return the operations of each key."""
        return _Values(self)

    def pairs(self) -> Iterator[tuple[str, Sequence[Op]]]:
        """Make the operations of one key after the other; of small keys, some at a time."""
        names, bounds = self._columns.keys, self._bounds.tolist()
        first = 0
        while first < len(names):
            last = bisect_right(bounds, bounds[first] + BLOCK_OPS, first + 2) - 1
            ops = ops_of(self._columns, self._order[bounds[first] : bounds[last]])
            base = bounds[first]
            for number in range(first, last):
                yield names[number], ops[bounds[number] - base : bounds[number + 1] - base]
            first = last


class _Items(ItemsView[str, Sequence[Op]]):
    _mapping: _Keys

    def __iter__(self) -> Iterator[tuple[str, Sequence[Op]]]:
        return self._mapping.pairs()


class _Values(ValuesView[Sequence[Op]]):
    _mapping: _Keys

    def __iter__(self) -> Iterator[Sequence[Op]]:
        return (ops for _, ops in self._mapping.pairs())


def ops_of(columns: Columns, rows: Ints) -> list[Op]:
    """Return the operations of some rows, in the order of `rows`."""

    def cells(name: str) -> list[Any]:
        return getattr(columns, name)[rows].tolist()  # type: ignore[no-any-return]

    def texts(ids: str, names: Sequence[Any]) -> Iterator[Any]:
        return map(names.__getitem__, cells(ids))

    def ends(name: str) -> list[Any]:
        return [None if one == NONE else one for one in cells(name)]

    # By place and without a loop in Python: a third of the time that names would take.
    fields = (
        texts("client", columns.clients),
        cells("op"),
        texts("f", FUNCTIONS),
        texts("key", columns.keys),
        texts("value", columns.values),
        texts("expected", columns.values),
        texts("outcome", OUTCOMES),
        cells("start"),
        ends("end"),
        cells("start_us"),
        ends("end_us"),
        texts("node", columns.nodes),
        texts("error", columns.errors),
        cells("final"),
        cells("degraded"),
        cells("version"),
        texts("result", columns.values),
    )
    return list(map(Op, *fields))


def columns_of(history: Operations) -> Columns:
    """Return operations as columns: those of a table as they are, others turned into arrays."""
    if isinstance(history, Table):
        return history.columns
    keys, clients = Names(), Names()
    values, nodes, errors = Names(None), Names(""), Names("")
    names = {"key": keys, "value": values, "expected": values, "client": clients}
    names |= {"result": values, "node": nodes, "error": errors}
    ops = history.ops
    lows = range(0, max(len(ops), 1), BLOCK_OPS)
    blocks = [_block(ops[low : low + BLOCK_OPS], names) for low in lows]
    return Columns(
        keys=keys.texts(),
        values=values.texts(),
        clients=clients.texts(),
        nodes=nodes.texts(),
        errors=errors.texts(),
        **{name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]},
    )


def _block(ops: Sequence[Op], names: Mapping[str, Names]) -> dict[str, npt.NDArray[Any]]:
    """Return a few operations as arrays, by the names of the columns."""
    made: dict[str, npt.NDArray[Any]] = {}
    for field, of in names.items():
        number = of.number
        made[field] = np.array([number[getattr(op, field)] for op in ops], np.int32)
    made["f"] = np.array([F_CODES[op.f] for op in ops], np.int8)
    made["outcome"] = np.array([OUTCOME_CODES[op.outcome] for op in ops], np.int8)
    for field in ("end", "end_us"):
        ends = [getattr(op, field) for op in ops]
        made[field] = np.array([NONE if one is None else one for one in ends], np.int64)
    for field in ("op", "start", "start_us"):
        made[field] = np.array([getattr(op, field) for op in ops], np.int64)
    for field in ("final", "degraded"):
        made[field] = np.array([getattr(op, field) for op in ops], np.bool_)
    made["version"] = numbers([op.version for op in ops])
    return made


def numbers(some: Sequence[int]) -> npt.NDArray[Any]:
    """Return whole numbers of any size as an array: of 63 bits where all of them fit."""
    try:
        return np.array(some, np.int64)
    except OverflowError:
        return np.array(some, object)


def pair_numbers(key: Ints, value: Ints, keys: int, values: int) -> tuple[Ints, int]:
    """Number the pairs of key and value of some operations.

    `keys` and `values` are how many of each there are. Returns a number for each operation, equal for
    equal pairs, and how many numbers there may be.
    """
    key_of = np.empty(values, np.int64)
    key_of[value] = key
    absent: Bools = value == ABSENT
    if np.array_equal(key_of[value][~absent], key[~absent]):
        # Every value is of one key and stands for it too: no sorting.
        return np.where(absent, values + key, value), values + keys
    codes, pairs = np.unique(key * values + value, return_inverse=True)
    return pairs, len(codes)
