"""What a node wants to be remembered, collected until its shell has it written, and read back. No disk.

An entry is one thing to remember. In the order in which they were said:

    [RECORDS, [key, version, value, ...]]   records of a table; a newer version replaces an older one
    [DROP, range, kind]                     all of a range that was said by RECORDS, or REGISTER and
                                            PROMISE, is void
    [META, name, value]                     a named value; the last one counts
    [RESET]                                 all that was said before is void
    [REGISTER, key, ballot, value, changes, forgot, window]     what was accepted for a key
    [PROMISE, key, ballot]                  what was promised for a key
    [PURGE, range, version, [key, ...]]     these keys were erased, and nothing so old is taken of such

Invariant: `Saved`, fed with what a Journal of a table and of registers gave, holds what they held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvlab.storage.memory import Table
from kvlab.storage.registers import Register, Registers
from kvlab.wire.value import stored

RECORDS = 0
DROP = 1
META = 2
RESET = 3
REGISTER = 4
PROMISE = 5
PURGE = 6

Entry = list[Any]


class Journal:
    """The entries of the present turn. Hot paths add to `records` themselves."""

    __slots__ = ("_entries", "records")

    def __init__(self) -> None:
        self.records: list[Any] = []  # key, version, value, ...
        self._entries: list[Entry] = []

    def __bool__(self) -> bool:
        return bool(self.records or self._entries)

    def drop(self, index: int) -> None:
        """Remember that a range of the table was dropped."""
        self._add([DROP, index, RECORDS])

    def drop_registers(self, index: int) -> None:
        """Remember that a range of the registers was dropped."""
        self._add([DROP, index, REGISTER])

    def meta(self, name: str, value: Any) -> None:
        """Remember a named value."""
        self._add([META, name, value])

    def register(self, key: bytes, register: Register) -> None:
        """Remember what was accepted for a key."""
        self._add([REGISTER, key, *register])

    def promise(self, key: bytes, ballot: int) -> None:
        """Remember what was promised for a key."""
        self._add([PROMISE, key, ballot])

    def purge(self, index: int, version: int, keys: list[bytes]) -> None:
        """Remember that keys of a range were erased, and up to which version."""
        self._add([PURGE, index, version, keys])

    def take(self) -> list[Entry]:
        """Return what is to be remembered, in order, and begin anew."""
        if self.records:
            self._add(None)
        entries, self._entries = self._entries, []
        return entries

    def _add(self, entry: Entry | None) -> None:
        if self.records:
            self._entries.append([RECORDS, self.records])
            self.records = []
        if entry is not None:
            self._entries.append(entry)


class Saved:
    """What was remembered: a table, registers, named values. `apply` is given entries in order."""

    def __init__(self, range_count: int, range_of: Callable[[bytes], int]) -> None:
        self.meta: dict[str, Any] = {}
        self.table = Table(range_count)
        self.registers = Registers(range_count)
        self.version = 0  # the greatest of all records, ballots and promises
        self._range_count = range_count
        self._range_of = range_of

    def apply(self, entries: list[Entry]) -> None:
        """Take entries; ValueError, TypeError or LookupError if they are none."""
        for kind, *what in entries:
            if kind == RECORDS:
                self._records(what[0])
            elif kind == DROP:
                (self.registers if what[1] == REGISTER else self.table).drop(what[0])
            elif kind == META:
                self.meta[what[0]] = what[1]
            elif kind == RESET:
                self.meta = {}
                self.table = Table(self._range_count)
                self.registers = Registers(self._range_count)
            elif kind == REGISTER:
                self._register(*what)
            elif kind == PROMISE:
                self._promise(*what)
            elif kind == PURGE:
                self.table.purge(*what)
                self.version = max(self.version, what[1])
            else:
                raise ValueError(f"an entry of a kind that this version does not know: {kind!r}")

    def _records(self, flat: list[Any]) -> None:
        put, range_of = self.table.put, self._range_of
        each = iter(flat)
        for key, version, value in zip(each, each, each, strict=True):
            put(range_of(key), key, version, stored(value))
            self.version = max(self.version, version)

    def _register(self, key: bytes, ballot: int, *body: Any) -> None:
        value, changes, forgot, window = body
        register = Register(ballot, stored(value), changes, forgot, tuple(map(tuple, window)))
        self.registers.accept(self._range_of(key), key, register)
        self.version = max(self.version, ballot)

    def _promise(self, key: bytes, ballot: int) -> None:
        index = self._range_of(key)
        if ballot > self.registers.promised(index, key):
            self.registers.promise(index, key, ballot)
        self.version = max(self.version, ballot)
