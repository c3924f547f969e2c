"""Connections between nodes: who dials, the handshake, one connection per pair. No meaning of frames.

Both sides may dial, or a restarted node would wait for the others to notice; of two connections that
cross, both sides keep the one that the lower id dialed.

Invariants:

1. A peer counts as up only after its HELLO: behind a proxy, connecting proves nothing.
2. At most one connection per peer is current; only its end is a `link_down`.
3. Members, founders and seeds are dialed for ever, with back-off: every split heals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from kvlab.kv.link import Link
from kvlab.live.options import split_address
from kvlab.wire.peer import (
    HELLO_BYTES_MAX,
    MAGIC,
    REFUSE,
    FrameError,
    FrameReader,
    Hello,
    Refuse,
    encode_frame,
    parse_hello,
)

if TYPE_CHECKING:
    from kvlab.live.server import Server

# Long, because fifty nodes that start on two cores answer late, and trying again makes it worse.
HANDSHAKE_SECONDS_MAX = 5.0
DIALS_MAX = 16  # handshakes under way at once
BACKOFF_SECONDS_MIN = 0.02
BACKOFF_SECONDS_MAX = 1.0
# The higher id lets the lower one dial first, so that connections seldom cross.
POLITE_SECONDS = 0.1
POLITE_SECONDS_EACH = 0.02  # more, the more peers there are to be waited for
# Refused for so long because another life of this node is connected, it is another process. Longer
# than a silent connection is kept, so that a node that died behind a cut is not its own double.
TWIN_SECONDS = 4.0
WRITE_BYTES_MAX = 256 * 1024 * 1024  # a peer that takes nothing for so long is cut off


class PeerConnection(asyncio.Protocol):
    """One connection to a peer, dialed by either side."""

    def __init__(self, peers: Peers, *, target: str = "", dialed: bool) -> None:
        self.peers = peers
        self.dialed = dialed
        self.target = target
        self.link: Link | None = None
        self.hello: Hello | None = None
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.over = asyncio.get_running_loop().create_future()  # the handshake's end
        self._reader = FrameReader(HELLO_BYTES_MAX)
        self._magic = b"" if dialed else MAGIC  # still to be read
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The dialer introduces itself."""
        self.transport = cast("asyncio.Transport", transport)
        self.peers.open.add(self)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(HANDSHAKE_SECONDS_MAX, self.transport.abort)
        if self.dialed:
            hello = self.peers.server.node.hello(self.target)
            self.transport.write(MAGIC + encode_frame(hello))

    def connection_lost(self, _exc: Exception | None) -> None:
        """The connection ended, from whatever side."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.over.done():
            self.over.set_result(False)
        self.peers.ended(self)

    def eof_received(self) -> bool:
        """Half a connection to a peer is of no use."""
        return False

    def data_received(self, data: bytes) -> None:
        """Frames, or pieces of them."""
        try:
            if self._magic:
                data = self._read_magic(data)
            bodies = self._reader.feed(data)
            link = self.link
            if link is None and bodies:
                self._handshake(bodies.pop(0))
                link = self.link
            if link is None:
                return
            server = self.peers.server
            now_us = server.now_us()
            for body in bodies:
                if self.link is None:  # this very frame made the node close the link
                    return
                server.node.frame(link, body, now_us)
        except FrameError as error:
            self.peers.server.node.state.counters["bad_frames"] += 1
            self.peers.server.log.warning("a peer connection was closed: %s", error.message)
            self.transport.abort()
        self.peers.server.touch()

    def write(self, data: bytes) -> None:
        """Send frames; a peer that has gone is the business of `connection_lost`."""
        transport = self.transport
        if transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > WRITE_BYTES_MAX:
            transport.abort()

    def _read_magic(self, data: bytes) -> bytes:
        size = min(len(data), len(self._magic))
        if data[:size] != self._magic[:size]:
            raise FrameError("the first bytes are not a peer's")
        self._magic = self._magic[size:]
        return data[size:]

    def _handshake(self, body: bytes) -> None:
        said = parse_hello(body)
        if isinstance(said, Refuse):
            self.peers.refused(self, said)
            self.transport.close()
            return
        code, reason = self.peers.server.node.why_refuse(said)
        if not code and not self.peers.may_take(self, said):
            code, reason = "duplicate", "there is a connection already"
        if code:
            if not self.dialed:
                self.write(encode_frame(Refuse(REFUSE, code, reason)))
            self.transport.close()
            return
        if not self.dialed:
            self.write(encode_frame(self.peers.server.node.hello(said.node)))
        if self._timer is not None:
            self._timer.cancel()
        self.hello = said
        self.peers.established(self, said)
        if not self.over.done():
            self.over.set_result(True)


class Peers:
    """All connections of one node to its peers."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.current: dict[str, PeerConnection] = {}
        self.seeds: tuple[str, ...] = ()
        self._dialing: dict[str, asyncio.Task[None]] = {}  # by address
        self.open: set[PeerConnection] = set()
        self._next_try: dict[str, tuple[float, float]] = {}  # address -> (when, back-off)
        self._closed = False
        self._twin_since = 0.0  # since when peers say that this node's id is taken

    # -- accepting and keeping ------------------------------------------------------------------

    def accept(self, transport: asyncio.Transport, data: bytes) -> None:
        """Take over a connection that began as a client's."""
        connection = PeerConnection(self, dialed=False)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        connection.data_received(data)

    def may_take(self, new: PeerConnection, hello: Hello) -> bool:
        """Whether a connection to a peer may become the current one."""
        old = self.current.get(hello.node)
        if old is None or old.hello is None or old.hello.boot != hello.boot:
            return True
        if old.dialed == new.dialed:
            return True  # the same side dialed again: it has lost the old one
        me = self.server.node.state.settings.id
        return new.dialed == (me < hello.node)

    def established(self, connection: PeerConnection, hello: Hello) -> None:
        """Make a connection the current one of its peer."""
        self._twin_since = 0.0
        old = self.current.get(hello.node)
        if old is not None:
            old.link = None
            old.transport.abort()
        self.current[hello.node] = connection
        connection.link = self.server.node.link_up(hello, self.server.now_us())
        self.server.log.debug("link to %s is up", hello.node)

    def ended(self, connection: PeerConnection) -> None:
        """Forget a connection that ended."""
        self.open.discard(connection)
        hello = connection.hello
        connection.link = None
        if hello is None or self.current.get(hello.node) is not connection:
            return
        del self.current[hello.node]
        self.server.log.debug("link to %s is down", hello.node)
        self.server.node.link_down(hello.node)
        self.server.touch()
        polite = 0.0 if self.server.node.state.settings.id < hello.node else POLITE_SECONDS
        self._next_try[self._address(hello.node) or hello.address] = (
            self._time() + polite,
            BACKOFF_SECONDS_MIN,
        )
        self.dial()

    def refused(self, connection: PeerConnection, said: Refuse) -> None:
        """Take note of why a peer does not talk to this node."""
        if said.code in ("duplicate", "self"):
            return
        self.server.log.warning("%s: %s", connection.target or "a seed", said.reason)
        twin = False
        if said.code == "running":
            self._twin_since = self._twin_since or self._time()
            twin = self._time() - self._twin_since >= TWIN_SECONDS
        if twin or said.code in ("old", "cluster", "ranges"):
            self.server.node.membership.refused = said.reason

    def drop(self, peer: str) -> None:
        """Close the connection to a peer that fell silent."""
        connection = self.current.get(peer)
        if connection is not None:
            self.server.log.info("%s was silent for too long", peer)
            connection.transport.abort()
            # Not left to the transport: behind a cut its end may come late.
            self.ended(connection)

    def send(self, peer: str, data: bytes) -> None:
        """Write frames to a peer's current connection."""
        connection = self.current.get(peer)
        if connection is not None:
            connection.write(data)

    def close(self) -> None:
        """Stop dialing and close everything."""
        self._closed = True
        for task in self._dialing.values():
            task.cancel()
        for connection in list(self.open):
            connection.transport.close()

    # -- dialing --------------------------------------------------------------------------------

    def dial(self) -> None:
        """Begin every dial that is due. Called at start, when a link ends and on each tick."""
        if self._closed:
            return
        now = self._time()
        wanted = list(self._wanted())
        patience = POLITE_SECONDS + POLITE_SECONDS_EACH * len(wanted)
        for peer, address in wanted:
            if len(self._dialing) >= DIALS_MAX:
                return
            if address in self._dialing or (peer and peer in self.current):
                continue
            if address not in self._next_try:
                me = self.server.node.state.settings.id
                polite = patience if peer and peer < me else 0.0
                self._next_try[address] = (now + polite, BACKOFF_SECONDS_MIN)
            if self._next_try[address][0] <= now:
                self._dialing[address] = asyncio.get_running_loop().create_task(
                    self._dial(peer, address)
                )

    def _wanted(self) -> Iterator[tuple[str, str]]:
        """Yield (id or "", address) of everybody this node wants a link to."""
        node = self.server.node
        settings = node.state.settings
        if node.state.map is not None:
            for member in node.state.map.members:
                if member.id != settings.id:
                    yield member.id, member.address
        else:
            for peer, address in settings.initial:
                if peer != settings.id:
                    yield peer, address
        if not self.current:
            for address in self.seeds:
                yield "", address

    def _address(self, peer: str) -> str:
        for known, address in self._wanted():
            if known == peer:
                return address
        return ""

    async def _dial(self, peer: str, address: str) -> None:
        host, port = split_address(address)
        loop = asyncio.get_running_loop()
        connection = PeerConnection(self, target=peer, dialed=True)
        took = False
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS_MAX):
                await loop.create_connection(lambda: connection, host, port)
                took = await connection.over
        except (OSError, TimeoutError):
            self.server.log.debug("%s did not answer at %s", peer or "a seed", address)
        finally:
            del self._dialing[address]
        if took:
            self._next_try[address] = (self._time(), BACKOFF_SECONDS_MIN)
            self.dial()
            return
        if peer:
            self.server.node.tried(peer)
        backoff = self._next_try[address][1]
        self._next_try[address] = (
            self._time() + backoff,
            min(backoff * 2, BACKOFF_SECONDS_MAX),
        )
        if not self._closed:
            loop.call_later(backoff, self.dial)

    @staticmethod
    def _time() -> float:
        return asyncio.get_running_loop().time()
