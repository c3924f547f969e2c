"""The sockets of the connections between nodes. What to dial, keep and say is `kv.peering`'s."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, cast

from kvlab.kv.peer_session import Close, Dial, Session, Write
from kvlab.kv.peering import NEVER_US, WRITE_BYTES_MAX, Peering
from kvlab.live.options import split_address
from kvlab.live.security import tls_trouble
from kvlab.wire.peer import NONCE_BYTES

if TYPE_CHECKING:
    from kvlab.live.server import Server


class PeerConnection(asyncio.Protocol):
    """The socket of one session."""

    def __init__(self, peers: Peers, session: Session) -> None:
        self.peers = peers
        self.session = session
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self.transport = cast("asyncio.Transport", transport)
        self.session.conn = self
        self.peers.open.add(self)
        if self.session.dialed:
            self.peers.peering.connected(self.session)
            self.peers.carry_out()

    def connection_lost(self, _exc: Exception | None) -> None:
        """The connection ended, from whatever side."""
        self.peers.open.discard(self)
        self.peers.ended(self.session)

    def eof_received(self) -> bool:
        """Half a connection to a peer is of no use."""
        return False

    def data_received(self, data: bytes) -> None:
        """Frames, or pieces of them."""
        peers = self.peers
        peering = peers.peering
        peering.received(self.session, data, peers.server.now_us())
        if peering.effects:
            peers.carry_out()
        peers.server.touch()

    def write(self, data: bytes) -> None:
        """Send frames; a peer that has gone is the business of `connection_lost`."""
        transport = self.transport
        if transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > WRITE_BYTES_MAX:
            transport.abort()


class Peers:
    """All connections of one node to its peers."""

    def __init__(self, server: Server, seeds: tuple[str, ...]) -> None:
        self.server = server
        log = {
            "debug": server.log.debug,
            "info": server.log.info,
            "warning": server.log.warning,
        }
        self.peering = Peering(
            server.node,
            seeds,
            lambda level, text: log[level]("%s", text),
            lambda: os.urandom(NONCE_BYTES),
        )
        self.open: set[PeerConnection] = set()
        self._tls = server.security.peer_context()
        self._connecting: dict[Session, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_us = NEVER_US

    def accept(self, transport: asyncio.Transport, data: bytes) -> None:
        """Take over a connection that began as a client's."""
        origin = str(transport.get_extra_info("peername", ("",))[0])
        if self.server.security.needs_certificate and not transport.get_extra_info("peercert"):
            self.peering.turned_away(f"a caller from {origin}", "it shows no certificate")
            transport.abort()
            return
        connection = PeerConnection(self, self.peering.accept(self.server.now_us(), origin))
        transport.set_protocol(connection)
        connection.connection_made(transport)
        connection.data_received(data)

    def ended(self, session: Session) -> None:
        """A connection ended, or an attempt to connect failed."""
        self.peering.ended(session, self.server.now_us())
        self.carry_out()
        self.server.touch()

    def tick(self) -> None:
        """Close what was silent for too long, and dial whoever is missing."""
        now_us = self.server.now_us()
        self.peering.drop_silent(now_us)
        self.peering.advance(now_us)
        self.carry_out()

    def send(self, peer: str, data: bytes) -> None:
        """Write frames to a peer's current connection."""
        session = self.peering.current.get(peer)
        if session is None:
            return
        keeping = self.server.keeping
        if keeping is None:
            session.conn.write(data)
        else:
            keeping.say(session.conn, data)

    def close(self) -> None:
        """Stop dialing and close everything."""
        if self._timer is not None:
            self._timer.cancel()
        self.peering.close()
        self.carry_out()

    def carry_out(self) -> None:
        """Do what the peering asks for."""
        peering = self.peering
        while peering.effects:
            for effect in peering.take_effects():
                session = effect.session
                connection = cast("PeerConnection | None", session.conn)
                if isinstance(effect, Dial):
                    task = asyncio.get_running_loop().create_task(self._connect(session))
                    self._connecting[session] = task
                elif connection is None:
                    if session in self._connecting:
                        self._connecting.pop(session).cancel()
                elif isinstance(effect, Write):
                    connection.write(effect.data)
                elif isinstance(effect, Close):
                    connection.transport.close()
                else:
                    connection.transport.abort()
        self._arm()

    def _arm(self) -> None:
        """Wake the peering when it next has something to do."""
        due_us = self.peering.due_us
        if due_us >= self._timer_us:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_us = due_us
        wait_us = max(0, due_us - self.server.now_us())
        self._timer = asyncio.get_running_loop().call_later(wait_us / 1e6, self._due)

    def _due(self) -> None:
        self._timer, self._timer_us = None, NEVER_US
        self.peering.advance(self.server.now_us())
        self.carry_out()

    async def _connect(self, session: Session) -> None:
        host, port = split_address(session.address)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(
                lambda: PeerConnection(self, session), host, port, ssl=self._tls
            )
        except OSError as error:
            if self._tls is not None and (trouble := tls_trouble(error)):
                self.peering.turned_away(session.who, trouble)
            self.ended(session)
        finally:
            self._connecting.pop(session, None)
