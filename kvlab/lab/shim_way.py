"""One way through the shim: the bytes of one direction of one connection, and their link.

It decides nothing (`fault.link` does), opens nothing and knows no node: it queues, waits and
writes. Invariants:

1. Order is kept: while anything waits, whatever comes later waits behind it.
2. While its link is cut, nothing is handed to the sink: neither bytes, nor an end, nor a reset.
3. What waits is bounded: beyond the limit the source is no longer read, so that TCP itself
   holds the sender.
4. `plain` is true only if a chunk may be written straight through.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from kvlab.fault.link import (
    CLEAN,
    Deliver,
    Hold,
    LinkRule,
    Reset,
    StreamState,
    WireState,
    fate,
    slice_bytes,
)
from kvlab.lab.shim_timer import now_us

if TYPE_CHECKING:
    from kvlab.rng import Rng

AT_ONCE: Final = 0
"""The due time of what waits only for the link, the sink or what is ahead of it."""


class Mark(Enum):
    """What can travel in a stream besides bytes."""

    END = "end"
    RESET = "reset"


class Link:
    """A directed link: its rule, what its streams share, and what happened on it so far."""

    __slots__ = (
        "bytes",
        "chunks",
        "connections",
        "cut",
        "delayed",
        "held_bytes",
        "hung",
        "opened",
        "queued_bytes",
        "refused",
        "resets",
        "rng",
        "rule",
        "shaping",
        "source",
        "target",
        "wire",
    )

    def __init__(self, source: str, target: str, rng: Rng) -> None:
        self.source = source
        self.target = target
        self.rng = rng
        self.wire = WireState()
        self.rule: LinkRule = CLEAN
        self.shaping: LinkRule | None = None  # the rule, if it touches bytes
        self.cut = False
        self.connections = 0  # open now, dialled from source to target
        self.opened = 0
        self.bytes = 0  # handed to the target's socket
        self.chunks = 0  # in so many pieces
        self.held_bytes = 0  # stopped by a cut, ever
        self.queued_bytes = 0  # waiting in the shim now
        self.delayed = 0  # chunks
        self.refused = 0  # connects
        self.hung = 0  # connects
        self.resets = 0  # connections that its rule broke

    def set_rule(self, rule: LinkRule) -> None:
        """Set the rule for whatever comes; the ways are refreshed by the relay."""
        self.rule = rule
        self.shaping = rule if rule.shapes else None
        self.cut = rule.cut
        self.wire.free_us = 0

    def snapshot(self) -> dict[str, Any]:
        """Give the counters as a row for `Shims.snapshot`."""
        return {
            "from": self.source,
            "to": self.target,
            "connections": self.connections,
            "opened": self.opened,
            "bytes": self.bytes,
            "chunks": self.chunks,
            "held_bytes": self.held_bytes,
            "queued_bytes": self.queued_bytes,
            "delayed": self.delayed,
            "refused": self.refused,
            "connects_hung": self.hung,
            "resets": self.resets,
            "rule": self.rule.text(),
        }


class Owner(Protocol):
    """What a way needs of its connection."""

    def break_off(self, link: Link | None) -> None:
        """Reset both sides; `link` is the one whose rule wants it, if one does."""

    def way_ended(self) -> None:
        """Note that the end of one way's stream was handed over."""


class Room:
    """The bounds that all ways share, and the alarm for what is due."""

    __slots__ = ("queued", "total_max", "wake", "way_max")

    def __init__(self, wake: Any, *, way_max: int, total_max: int) -> None:
        self.wake = wake  # (way, at_us) -> None
        self.way_max = way_max  # bytes
        self.total_max = total_max  # bytes
        self.queued = 0  # bytes


class Way:
    """One direction of one connection."""

    __slots__ = (
        "blocked",
        "dead",
        "ended",
        "link",
        "owner",
        "paused",
        "plain",
        "queue",
        "queued",
        "room",
        "sink",
        "source",
        "state",
        "wake_us",
    )

    def __init__(self, owner: Owner, link: Link, room: Room) -> None:
        self.owner = owner
        self.link = link
        self.room = room
        self.state = StreamState(link.wire)
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self.queue: deque[tuple[int, bytes | Mark]] = deque()
        self.queued = 0
        self.plain = False
        self.blocked = False  # the sink's own buffer is full
        self.paused = False  # the source is not read
        self.ended = False  # the end of the stream was handed over
        self.dead = False  # there is nobody to hand anything to
        self.wake_us = 0  # when the alarm comes for this way; 0 is not at all

    def feed(self, data: bytes) -> None:
        """Take bytes from the source when the fast path is not open."""
        rule = self.link.shaping
        step = slice_bytes(rule) if rule is not None else 0
        now = now_us()
        if step == 0 or len(data) <= step:
            self._take(data, len(data), now)
        else:
            for start in range(0, len(data), step):
                self._take(data[start : start + step], min(step, len(data) - start), now)
        self.drain(now)

    def finish(self, mark: Mark) -> None:
        """Take the end of the stream, or its reset, from the source."""
        now = now_us()
        self._take(mark, 0, now)
        self.drain(now)

    def open(self, sink: asyncio.Transport) -> None:
        """Learn where the bytes go, and hand over what waited for it."""
        self.sink = sink
        self.drain(now_us())

    def drain(self, now: int) -> None:
        """Hand over what is due; leave the rest, and an alarm for its head."""
        queue = self.queue
        while queue and not self.blocked and not self.link.cut and self.sink is not None:
            at_us, item = queue[0]
            if at_us > now:
                if self.wake_us == 0 or at_us < self.wake_us:
                    self.wake_us = at_us
                    self.room.wake(self, at_us)
                break
            queue.popleft()
            if isinstance(item, Mark):
                self._hand_mark(item)
            else:
                self._account(-len(item))
                self._hand(item)
        self.settle()

    def unblock(self) -> None:
        """Go on after the sink's own buffer was full."""
        self.blocked = False
        self.drain(now_us())

    def refresh(self, *, was_cut: bool) -> None:
        """Follow a change of the link's rule. Without a rule everything goes out, in order."""
        if self.link.shaping is None:
            self.queue = deque((AT_ONCE, item) for _, item in self.queue)
            self.state.last_us = 0
        elif self.link.cut and not was_cut:
            self.link.held_bytes += self.queued
        self.drain(now_us())

    def move(self, link: Link) -> None:
        """Belong to another link from now on: the caller turned out to be a node."""
        self.link.queued_bytes -= self.queued
        link.queued_bytes += self.queued
        self.link = link
        self.state = StreamState(link.wire, self.state.last_us)
        self.refresh(was_cut=False)

    def kill(self) -> None:
        """Forget everything: there is nobody to hand it to any more."""
        self.dead = True
        self.plain = False
        self.queue.clear()
        self._account(-self.queued)
        self.sink = None
        self.settle()

    def settle(self) -> None:
        """Open or close the fast path, and read the source or not."""
        self.plain = (
            self.sink is not None
            and self.link.shaping is None
            and not self.queue
            and not self.blocked
            and not self.ended
        )
        full = self.queued > 0 and (
            self.queued > self.room.way_max or self.room.queued > self.room.total_max
        )
        want = (self.blocked or full) and not self.dead
        if want != self.paused and self.source is not None:
            self.paused = want
            if want:
                self.source.pause_reading()
            else:
                self.source.resume_reading()

    def _take(self, item: bytes | Mark, size: int, now: int) -> None:
        if self.dead:
            return
        at_us = AT_ONCE
        if self.link.shaping is not None:
            match fate(self.link.shaping, self.state, now, size, self.link.rng):
                case Deliver(at_us=at_us):
                    self.link.delayed += at_us > now and size > 0
                case Hold():
                    self.link.held_bytes += size
                case Reset():
                    self.owner.break_off(self.link)
                    return
        self.queue.append((at_us, item))
        self._account(size)

    def _hand(self, data: bytes) -> None:
        if self.sink is not None:
            self.link.bytes += len(data)
            self.link.chunks += 1
            try:
                self.sink.write(data)
            except RuntimeError:  # uvloop: the transport was closed under us; connection_lost comes
                self.sink = None

    def _hand_mark(self, mark: Mark) -> None:
        if mark is Mark.RESET:
            self.owner.break_off(None)
            return
        self.ended = True
        if self.sink is not None:
            try:
                self.sink.write_eof()
            except (RuntimeError, OSError):  # closed under us, as above
                self.sink = None
        self.owner.way_ended()

    def _account(self, size: int) -> None:
        self.queued += size
        self.link.queued_bytes += size
        self.room.queued += size
