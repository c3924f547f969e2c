"""The sockets of the connections of clients. What to answer, and when to read, is `kv.session`'s.

Invariants:

1. What a client does, or its going away, never raises into another's callbacks.
2. A connection that has ended leaves no cycle of objects: the node's collector runs seldom.
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, cast

from kvlab.kv.password import origin_of
from kvlab.kv.peering import NEVER_US
from kvlab.kv.session import STALLED_US_MAX, WRITE_BYTES_HIGH, ClientSession

if TYPE_CHECKING:
    from kvlab.live.server import Server


class ClientConnection(asyncio.Protocol):
    """A connection that was accepted. Whose it is, a client's or a peer's, its first bytes tell."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.session = ClientSession(server.node)
        self.session.conn = self
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._read_paused = False
        self._turn_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None  # when a client that reads nothing is cut
        self._is_stranger = self.session.is_stranger

    @property
    def held_bytes(self) -> int:
        """How much memory the client's slowness costs: half a request, and replies not read."""
        return self.session.waiting_bytes + self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self.transport = cast("asyncio.Transport", transport)
        if self._is_stranger:
            peer = transport.get_extra_info("peername")
            self.session.origin = origin_of(peer[0]) if peer else ""
        self.transport.set_write_buffer_limits(high=WRITE_BYTES_HIGH)
        self.server.client_came(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The client went."""
        self.session.gone()
        self._let_go()
        self.server.client_went(self)

    def data_received(self, data: bytes) -> None:
        """Requests, or pieces of them. Written out, because every request passes here."""
        server, session = self.server, self.session
        replies = session.feed(data, (monotonic_ns() + server.clock_offset_ns) // 1000)
        if replies:
            transport = self.transport
            if server.keeping is not None:
                self._say(replies)
            elif not transport.is_closing():
                transport.write(replies)
        if session.stirred:
            self._look()

    def eof_received(self) -> bool:
        """The client will send nothing more; the transport closes if it is owed nothing."""
        self.session.eof()
        if self.server.keeping is not None:
            self._look()
            return True
        return self.session.busy

    def release(self) -> None:
        """Write what has ended of what the client asked."""
        self._write(self.session.release())

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        if self._stalled is None:
            loop = asyncio.get_running_loop()
            self._stalled = loop.call_later(STALLED_US_MAX / 1e6, self._cut_off)
        self.session.pause_writing()
        self._look()

    def resume_writing(self) -> None:
        """The socket has taken what was written."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        self._write(self.session.resume_writing(self.server.now_us()))

    def _write(self, data: bytes) -> None:
        """Send replies, then do whatever else the session wants."""
        # uvloop raises on a write to a closing transport, into whoever's callback this is.
        if data:
            if self.server.keeping is not None:
                self._say(data)
            elif not self.transport.is_closing():
                self.transport.write(data)
        if self.session.stirred:
            self._look()

    def _say(self, data: bytes) -> None:
        """Send replies when what they rest on is kept."""
        keeping = self.server.keeping
        assert keeping is not None
        keeping.say(self, data)
        self.server.touch()
        if keeping.is_full:
            keeping.pause(self)

    def _look(self) -> None:
        """Do what the session wants beside writing."""
        session, transport = self.session, self.transport
        session.stirred = False
        if self._is_stranger and not session.is_stranger:
            self._is_stranger = False
            self.server.client_known(self)
        if session.peer_data:
            self._let_go()
            self.server.adopt_peer(self, session.peer_data)
            return
        self.server.touch()
        if transport.is_closing():
            return
        if session.close_due:
            if self.server.keeping is not None:
                self.server.keeping.say(self, None)
            else:
                transport.close()
            return
        if session.read_paused is not self._read_paused:
            self._read_paused = session.read_paused
            if session.read_paused:
                transport.pause_reading()
            else:
                transport.resume_reading()
        if session.deadline_us != NEVER_US and self._timer is None:
            self._arm()
        if session.wants_turn and not self._turn_due:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        self._write(self.session.go_on(self.server.now_us()))

    def _arm(self) -> None:
        """Wake at the deadline. One that was met since then only makes the timer go off in vain."""
        wait_us = max(0, self.session.deadline_us - self.server.now_us())
        self._timer = asyncio.get_running_loop().call_later(wait_us / 1e6, self._due)

    def _due(self) -> None:
        self._timer = None
        self._write(self.session.expire(self.server.now_us()))
        if self.session.deadline_us != NEVER_US and self._timer is None:
            self._arm()

    def _cut_off(self) -> None:
        """Give up a client that has not read for long, unless it was the disk that held it up."""
        self._stalled = None
        if self.transport.get_write_buffer_size() > WRITE_BYTES_HIGH // 4:
            self.server.node.state.counters["slow_clients"] += 1
            self.transport.abort()

    def _let_go(self) -> None:
        """Keep nothing that would keep this object."""
        self.session.conn = None
        for timer in (self._timer, self._stalled):
            if timer is not None:
                timer.cancel()
        self._timer = self._stalled = None
