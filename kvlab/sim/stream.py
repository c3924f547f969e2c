"""The ends of a simulated connection, and what is asked of those who use them. Nothing moves here.

How bytes travel from one end to the other is `network`'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from kvlab.fault.link import StreamState, WireState
from kvlab.sim.clock import Timer

if TYPE_CHECKING:
    from kvlab.sim.network import Network

Link = tuple[str, str]
Power = Literal["up", "no process", "off"]


class Owner(Protocol):
    """Whoever uses one end of a connection."""

    def opened(self, end: End) -> None:
        """The connection that was asked for is there."""

    def data(self, end: End, data: bytes) -> None:
        """Bytes came."""

    def eof(self, end: End) -> None:
        """The other side will send nothing more."""

    def lost(self, end: End) -> None:
        """The connection is over, or could not be made. The last that is heard of it."""

    def pause_writing(self, end: End) -> None:
        """Too much is under way; write no more for now."""

    def resume_writing(self, end: End) -> None:
        """There is room again."""


class Machine(Protocol):
    """A host as the network sees it."""

    name: str
    power: Power

    def hear(self, call: Callable[..., object], *arguments: Any) -> None:
        """Run an event of the network in the process, now or when it runs again."""

    def accept(self, end: End) -> Owner:
        """A connection came."""


@dataclass(slots=True)
class Count:
    """What one link carried, and the wire that its streams share."""

    bytes: int = 0
    connects: int = 0
    held_bytes: int = 0  # that met a cut
    shaped_bytes: int = 0  # that were sent while the link had a rule of its own
    resets: int = 0  # connections that a rule broke or refused
    hung: int = 0  # connects that a rule let hang
    wire: WireState = field(default_factory=WireState)


class Trace(Protocol):
    """Who looks on: told of time, kind, source, target, bytes or words, and connection (0: none)."""

    def __call__(
        self, now_us: int, kind: str, source: str, target: str, what: Any, connection: int = 0, /
    ) -> None:
        """Take note."""


class Stream:
    """One direction of a connection: what is under way, in order."""

    __slots__ = (
        *("count", "items", "link", "over", "paused", "source", "state", "target", "timer"),
        "under_way",
    )

    def __init__(self, source: End, target: End, count: Count) -> None:
        self.source = source
        self.target = target
        self.link = (source.host, target.host)
        self.count = count  # of the link
        self.state = StreamState(count.wire)
        self.items: deque[tuple[int, str, bytes]] = deque()  # (due, or -1 for held; kind; data)
        self.timer: Timer | None = None
        self.under_way = 0  # bytes
        self.paused = False  # the reader does not read
        self.over = False  # nothing will be sent any more


class End:
    """One side of a connection, as its process sees it."""

    __slots__ = ("_network", "choked", "host", "id", "is_open", "other", "out", "owner", "peer")

    def __init__(self, network: Network, host: str, peer: str, number: int) -> None:
        self._network = network
        self.host = host
        self.peer = peer  # the host on the other side
        self.id = number
        self.owner: Owner | None = None
        self.other: End | None = None
        self.out: Stream | None = None
        self.is_open = False
        self.choked = False  # the owner was told to pause

    @property
    def pending_bytes(self) -> int:
        """Bytes written here that the other side has not got."""
        return self.out.under_way if self.out is not None else 0

    def write(self, data: bytes) -> None:
        """Send bytes; nothing happens if this side is closed."""
        if self.is_open and data:
            self._network.send(self, data)

    def close(self) -> None:
        """Send what was written, then end the connection."""
        self._network.close(self)

    def abort(self) -> None:
        """End the connection at once; what is under way is lost."""
        self._network.abort(self)

    def pause_reading(self) -> None:
        """Take no more bytes for now."""
        self._network.pause(self, paused=True)

    def resume_reading(self) -> None:
        """Take bytes again."""
        self._network.pause(self, paused=False)
