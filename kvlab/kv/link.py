"""What a node knows of one peer, and what it is about to tell it. Not the connection: see `peering`.

Invariants:

1. `outstanding` holds the groups sent to the peer and not yet acknowledged, in order of gid; the
   peer acknowledges in that order, so one number acknowledges all up to it.
2. Everything queued here goes out in one frame per loop turn, or is dropped when the link goes down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from kvlab.wire.peer import TURN, encode_frame

if TYPE_CHECKING:
    from kvlab.kv.group import Group


FRAME_BYTES_SOFT = 16 * 1024 * 1024  # beyond it what a turn brought goes out in several frames


class Link:
    """One peer: its state as seen from here, and the frame that is being filled for it."""

    __slots__ = (
        "ack",
        "ack_due",
        "boot",
        "controls",
        "epoch",
        "exceptions",
        "groups",
        "heard",
        "id",
        "misses",
        "outstanding",
        "quiet_ticks",
        "reborn",
        "told",
        "tried",
        "up",
    )

    def __init__(self, peer: str) -> None:
        self.id = peer
        self.up = False
        self.tried = False  # a connection was tried since this node started
        self.boot = 0  # the peer's last known life
        self.reborn = False  # this is not the first life of the peer that was met here
        self.epoch = 0  # of the map by which the peer serves, as last heard; 0: it does not serve
        self.told = 0  # the epoch of the last map that was sent
        self.outstanding: deque[Group] = deque()
        self.groups: list[Any] = []
        self.ack = 0
        self.ack_due = False
        self.exceptions: list[Any] = []
        self.controls: list[list[Any]] = []
        self.heard = True
        self.misses = 0  # ticks in a row without a byte from the peer
        self.quiet_ticks = 0  # ticks in a row without a frame to the peer

    def reset(self) -> None:
        """Begin a connection anew; what the old one still had to say is lost with it."""
        self.groups, self.exceptions, self.controls = [], [], []
        self.ack, self.ack_due, self.told = 0, False, 0
        self.heard, self.misses, self.quiet_ticks = True, 0, 0

    @property
    def has_frame(self) -> bool:
        """Whether there is something to tell."""
        return bool(self.groups or self.ack_due or self.exceptions or self.controls)

    def take_frame(self, epoch: int, clock: int) -> bytes:
        """Return what was filled so far, as one frame (more where it is heavy), and begin anew."""
        groups, exceptions, controls = self.groups, self.exceptions, self.controls
        self.groups, self.exceptions, self.controls = [], [], []
        self.ack_due = False
        self.quiet_ticks = 0
        frame = b""
        while len(groups) > 1 and sum(map(_weight, groups)) > FRAME_BYTES_SOFT:
            frame += encode_frame([TURN, epoch, clock, [groups.pop(0)], 0, [], []])
        # Answers count when they are acknowledged, so those that come early change nothing.
        for part in _heavy_parts(exceptions):
            frame += encode_frame([TURN, epoch, clock, [], 0, part, []])
        return frame + encode_frame([TURN, epoch, clock, groups, self.ack, exceptions, controls])


def _heavy_parts(exceptions: list[Any]) -> Iterator[list[Any]]:
    """Take what is too heavy for one frame off the front of a frame's exceptions."""
    weights = [0 if isinstance(value, bool | None) else len(value) for value in exceptions[3::4]]
    left = sum(weights)
    while left > FRAME_BYTES_SOFT:
        size = count = 0
        while not size or (size < FRAME_BYTES_SOFT and count < len(weights)):
            size += weights[count]
            count += 1
        yield exceptions[: 4 * count]
        del exceptions[: 4 * count], weights[:count]
        left -= size


def _weight(group: msgspec.Raw) -> int:
    return len(memoryview(group))
