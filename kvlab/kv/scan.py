"""Listing keys: a walk through all ranges, some at a time, wherever they are held. No I/O.

A cursor is a range and a place in it; the keys of a range stand in the order of their checksums, which
is the same on every node and at all times. So any node can go on where another one stopped, and a key
that is there all the while is told at least once (as Redis' SCAN promises), moves included. What one
replica holds is told: one that missed a write tells it once it has it. Who must find all (FLUSHALL)
walks once for each copy.

The messages, as controls of the peer frames:

    ["scan", number, ns, range, after]      which keys does it hold, from this place on?
    ["scanned", number, keys, next]         next: the place behind them; -1: that was all

Invariants:

1. Every scan ends exactly once, a bounded time after it began, after RANGES_MAX ranges at most.
2. Keys with one checksum are told together, so a place says what was told.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any

from kvlab.kv.link import Link
from kvlab.kv.state import State
from kvlab.wire.peer import FrameError
from kvlab.wire.value import live

PLACE_BITS = 33  # a checksum has 32 bits, and the place behind the last one is one more
PAGE_KEYS = 250  # that are looked for in a range at once, fewer are not worth the walk
PAGE_BYTES = 256 * 1024
RANGES_MAX = 64
SCANS_MAX = 1000  # under way at once
TIMEOUT_US = 1_000_000

End = Callable[[int, list[bytes] | None], object]
"""Takes the next cursor (0: that was all) and keys; None: nobody who holds them can be asked."""


@dataclass(slots=True, eq=False)
class Scan:
    """One step of a walk."""

    ns: int  # 0 eventual, 1 linear
    index: int
    after: int
    count: int
    end: End
    deadline_us: int
    copy: int | None  # ask this one of each range's replicas, where it can be reached; None: any
    found: list[bytes] = field(default_factory=list)
    ranges_left: int = field(default=RANGES_MAX, kw_only=True)
    peer: str = ""  # that is asked at present


def cursor_at(index: int, after: int = 0) -> int:
    """Return the cursor of a place in a range. It is never 0, which would say that a walk is over."""
    return (index << PLACE_BITS | after) << 1 | 1


class Scans:
    """All scans of one node."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._asked: dict[int, Scan] = {}
        self._number = 0

    @property
    def is_full(self) -> bool:
        """Whether clients must be told to come back later."""
        return len(self._asked) >= SCANS_MAX

    def begin(
        self,
        ns: int,
        cursor: int,
        count: int,
        end: End,
        now_us: int,
        *,
        copy: int | None = None,
        ranges: int = RANGES_MAX,
    ) -> None:
        """Walk on from a cursor until `count` keys were found, or for so many ranges.

        With `copy`, ask the replica of that number, and pass by ranges where it cannot be reached.
        """
        index, after = divmod(cursor >> 1, 1 << PLACE_BITS)
        until_us = now_us + TIMEOUT_US
        self._go_on(Scan(ns, index, after, count, end, until_us, copy, ranges_left=ranges))

    def _go_on(self, scan: Scan) -> None:
        state = self.state
        while scan.index < state.settings.range_count:
            if not scan.ranges_left or len(scan.found) >= scan.count:
                scan.end(cursor_at(scan.index, scan.after), scan.found)
                return
            peer = self._whom(scan)
            if peer is None:
                scan.end(0, None)
                return
            if peer == state.settings.id:
                self._take(scan, *self._page(scan.ns, scan.index, scan.after))
            elif peer:
                self._ask(scan, peer)
                return
            else:
                self._take(scan, [], -1)
        scan.end(0, scan.found)

    def _whom(self, scan: Scan) -> str | None:
        """Return who is asked for a range; None: no replica can be; "": the one wanted cannot be."""
        state = self.state
        me = state.settings.id
        here = state.serving and state.holds(scan.index)
        if here and scan.copy is None:
            return me
        if state.map is None:
            return None
        replicas = state.map.ranges[scan.index].replicas
        reached = [one for one in replicas if one in state.current_up or (here and one == me)]
        if not reached:
            return None
        if scan.copy is None:
            return reached[0]
        return next((one for one in replicas[scan.copy : scan.copy + 1] if one in reached), "")

    def _take(self, scan: Scan, keys: list[bytes], following: int) -> None:
        scan.found += keys
        if following < 0:
            scan.index, scan.after = scan.index + 1, 0
            scan.ranges_left -= 1
        else:
            scan.after = following

    def _page(self, ns: int, index: int, after: int) -> tuple[list[bytes], int]:
        """Return the keys of a range from a place on, as many as a page holds, and what follows."""
        state, now_us = self.state, self.state.now_us
        if ns:
            held: Any = state.registers.ranges[index].items()
        else:
            held = state.table.ranges[index].items()
        there = [
            (place, key)
            for key, record in held
            if (place := crc32(key)) >= after and live(record[1], now_us) is not None
        ]
        found = nsmallest(PAGE_KEYS + 1, there)
        keys: list[bytes] = []
        size, last = 0, -1
        for place, key in found:
            if place != last and (len(keys) >= PAGE_KEYS or size >= PAGE_BYTES):
                return keys, place
            keys.append(key)
            size += len(key)
            last = place
        if len(found) > PAGE_KEYS:  # all of its end have one checksum: all that have it belong here
            keys = [key for place, key in found if place < last]
            keys += [key for place, key in there if place == last]
            return keys, last + 1
        return keys, -1

    # -- others ---------------------------------------------------------------------------------

    def _ask(self, scan: Scan, peer: str) -> None:
        """Ask a replica of the range."""
        scan.peer = peer
        self._number += 1
        self._asked[self._number] = scan
        what = ["scan", self._number, scan.ns, scan.index, scan.after]
        self.state.up[peer].controls.append(what)

    def on_scan(self, link: Link, number: int, ns: int, index: int, after: int) -> None:
        """Tell a peer what is held of a range."""
        if not 0 <= index < self.state.settings.range_count:
            raise FrameError(f"{link.id} asks for a range that is not there")
        keys, following = self._page(ns, index, after)
        link.controls.append(["scanned", number, keys, following])

    def on_scanned(self, link: Link, number: int, keys: list[Any], following: int) -> None:
        """Go on with what a peer has told."""
        scan = self._asked.get(number)
        if scan is None or scan.peer != link.id:
            return
        if any(type(key) is not bytes for key in keys) or following >= 1 << PLACE_BITS:
            raise FrameError(f"{link.id} told keys that are none")
        del self._asked[number]
        self._take(scan, keys, following)
        self._go_on(scan)

    def on_link_down(self, link: Link) -> None:
        """Ask others what a peer has not told."""
        lost = [number for number, scan in self._asked.items() if scan.peer == link.id]
        for number in lost:
            self._go_on(self._asked.pop(number))

    def tick(self, now_us: int) -> None:
        """End what is late."""
        late = [number for number, scan in self._asked.items() if scan.deadline_us <= now_us]
        for number in late:
            self._asked.pop(number).end(0, None)
