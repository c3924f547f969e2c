"""The registers of one node in memory, split by range: what it accepted and promised for each key.

It is the storage of an acceptor (kv/acceptor.py) and decides nothing. What changes is told to a
journal, where there is one.

Invariants:

1. A register is replaced only by one with a greater ballot.
2. What is promised for a key is at least the ballot that is accepted for it; only what is above that
   is kept apart.
3. `digest(r)` is the same for the same accepted ballots, in whatever order they came.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from kvlab.storage.memory import Value, spread

if TYPE_CHECKING:
    from kvlab.storage.journal import Journal

WINDOW = 8
"""So many of a register's last changes are remembered, to be told from new ones."""

Remembered = tuple[Any, int, bool, Any]
"""The id of a request that changed the key, a version of when it did, whether its outcome is kept, and
what it told."""


class Register(NamedTuple):
    """What was accepted for one key.

    `value` is None where the key is absent, `changes` counts the changes of the key's whole life,
    `window` remembers the last WINDOW of them, and `forgot` is when the last of the others was.
    """

    ballot: int = 0
    value: Value | None = None
    changes: int = 0
    forgot: int = 0
    window: tuple[Remembered, ...] = ()


EMPTY = Register()


class Registers:
    """Registers of `range_count` ranges."""

    __slots__ = ("_digests", "journal", "keys", "promises", "ranges", "sizes")

    def __init__(self, range_count: int) -> None:
        self.journal: Journal | None = None
        self.ranges: list[dict[bytes, Register]] = [{} for _ in range(range_count)]
        self.promises: list[dict[bytes, int]] = [{} for _ in range(range_count)]
        self.keys = [0] * range_count  # that are not absent
        self.sizes = [0] * range_count  # bytes of these and their values
        self._digests = [0] * range_count

    def get(self, index: int, key: bytes) -> Register:
        """Return what was accepted for a key."""
        return self.ranges[index].get(key, EMPTY)

    def promised(self, index: int, key: bytes) -> int:
        """Return the ballot below which nothing is accepted for a key."""
        promised = self.promises[index].get(key, 0)
        return promised or self.ranges[index].get(key, EMPTY).ballot

    def promise(self, index: int, key: bytes, ballot: int) -> None:
        """Accept nothing below a ballot, which is above all that was promised."""
        self.promises[index][key] = ballot
        if self.journal is not None:
            self.journal.promise(key, ballot)

    def accept(self, index: int, key: bytes, register: Register) -> bool:
        """Keep a register; False if its ballot, or a greater one, was accepted already.

        Whether a promise forbids it is for the caller to say.
        """
        old = self.ranges[index].get(key, EMPTY)
        ballot, value = register.ballot, register.value
        if ballot <= old.ballot:
            return False
        if old.value is not None:
            self.keys[index] -= 1
            self.sizes[index] -= len(key) + len(old.value)
        if value is not None:
            self.keys[index] += 1
            self.sizes[index] += len(key) + len(value)
        self.ranges[index][key] = register
        if 0 < self.promises[index].get(key, 0) <= ballot:
            del self.promises[index][key]
        self._digests[index] ^= spread(old.ballot) ^ spread(ballot)
        if self.journal is not None:
            self.journal.register(key, register)
        return True

    def digest(self, index: int) -> int:
        """Return 64 bits that differ where accepted ballots of a range do, but for bad luck."""
        return self._digests[index]

    def snapshot(self, index: int) -> list[bytes]:
        """Return the keys of a range as they are now, absent ones included."""
        return list(self.ranges[index])

    def drop(self, index: int) -> None:
        """Forget a whole range."""
        if self.journal is not None and (self.ranges[index] or self.promises[index]):
            self.journal.drop_registers(index)
        self.ranges[index], self.promises[index] = {}, {}
        self.keys[index] = self.sizes[index] = self._digests[index] = 0

    def held(self) -> Iterator[int]:
        """Yield every range that holds something."""
        for index, records in enumerate(self.ranges):
            if records or self.promises[index]:
                yield index
