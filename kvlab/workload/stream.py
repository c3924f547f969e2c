"""Units of work: requests to send now, and requests to send when those are answered.

It is not a scheduler: when a unit starts is decided by the caller (see arrivals).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from kvlab.rng import Rng
from kvlab.workload.keys import KeyChooser, KeySpace
from kvlab.workload.mix import KINDS, SCAN_KEYS, Mix
from kvlab.workload.values import Values


class Request(NamedTuple):
    """One request: `f` is get, set or delete; only a set has a value."""

    f: str
    key: str
    value: str | None = None


class Unit(NamedTuple):
    """Requests sent together, and those that follow once all of them are answered."""

    first: tuple[Request, ...]
    then: tuple[Request, ...] = ()


class UnitSource(Protocol):
    """Anything that hands out units; None when there are no more."""

    def next_unit(self) -> Unit | None:
        """Return the next unit, or None."""
        ...


class Workload:
    """An endless stream of units drawn from a mix, a key chooser and a stream of values."""

    def __init__(
        self, mix: Mix, space: KeySpace, keys: KeyChooser, values: Values, rng: Rng
    ) -> None:
        self._space = space
        self._choose = keys.choose
        self._value = values.next
        self._random = rng.random
        self._thresholds = mix.thresholds()
        makers = {
            "read": self._read,
            "update": self._update,
            "insert": self._insert,
            "scan": self._scan,
            "rmw": self._rmw,
            "delete": self._delete,
        }
        self._makers = [makers[kind] for kind in KINDS]

    def next_unit(self) -> Unit:
        """Draw the next unit."""
        return self._makers[bisect_right(self._thresholds, self._random())]()

    def _key(self) -> str:
        return self._space.name(self._choose())

    def _read(self) -> Unit:
        return Unit((Request("get", self._key()),))

    def _update(self) -> Unit:
        return Unit((Request("set", self._key(), self._value()),))

    def _insert(self) -> Unit:
        return Unit((Request("set", self._space.insert(), self._value()),))

    def _scan(self) -> Unit:
        start, count = self._choose(), len(self._space)
        names = (self._space.name((start + i) % count) for i in range(SCAN_KEYS))
        return Unit(tuple(Request("get", name) for name in names))

    def _rmw(self) -> Unit:
        key = self._key()
        return Unit((Request("get", key),), (Request("set", key, self._value()),))

    def _delete(self) -> Unit:
        return Unit((Request("delete", self._key()),))


class Requests:
    """A finite source: one unit for each request given."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._requests = iter(requests)

    def next_unit(self) -> Unit | None:
        """Return the next request as a unit, or None."""
        request = next(self._requests, None)
        return None if request is None else Unit((request,))


def batches(source: UnitSource, size: int) -> Iterator[list[Request]]:
    """Cut units into batches of exactly `size` requests; each is sent once the last was answered.

    A request that follows another comes in a later batch than the one it waits for. The last batch
    of a finite source may be smaller.
    """
    now: list[Request] = []
    later: list[Request] = []
    while True:
        while len(now) >= size:
            yield now[:size]
            rest = now[size:]
            # What waits for a unit may be sent only when no request of that unit is left over.
            now, later = (rest, later) if rest else (later, [])
        unit = source.next_unit()
        if unit is None:
            break
        now.extend(unit.first)
        later.extend(unit.then)
    while now:
        yield now[:size]
        rest = now[size:]
        now, later = (rest, later) if rest else (later, [])
