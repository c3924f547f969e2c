"""One node on real sockets and a real clock: it feeds `kv.Node` and carries out what it says.

It makes no decision about data or membership.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, cast

from kvlab.kv.node import TICK_US, Node
from kvlab.kv.password import Password
from kvlab.kv.state import Settings
from kvlab.live.clients import ClientConnection
from kvlab.live.keeping import Folder, Keeping
from kvlab.live.options import NodeOptions, security_of
from kvlab.live.peers import PeerConnection, Peers
from kvlab.live.security import TLS_HANDSHAKE_SECONDS, WILDCARDS, Security
from kvlab.ring.cluster_map import ClusterMap

if TYPE_CHECKING:
    import socket

CLIENTS_MAX = 10_000
STRANGERS_MAX = 1024  # clients that have not told the password; the oldest gives way to one more
CLIENT_BYTES_MAX = 512 * 1024 * 1024  # of unfinished requests and unread replies of all clients
TICKS_PER_WEIGHING = 10
BACKLOG = 1024
DRAIN_SECONDS_MAX = 2.0
DRAIN_TELL_SECONDS = 0.1  # in which clients are turned away with a word
LEAVE_POLL_SECONDS = 0.05


class Server:
    """One running node. Made by `live.node.run`, inside an event loop."""

    def __init__(self, options: NodeOptions, listener: socket.socket) -> None:
        self.options = options
        self.log = logging.getLogger("kvlab.node")
        self._loop = asyncio.get_running_loop()
        # A clock that no step of the wall clock turns back while the node lives.
        self.clock_offset_ns = _offset_ns() + options.clock_us * 1000
        host, port = listener.getsockname()[:2]
        self.address = f"{host}:{port}"
        self.security = security_of(options, self.log.warning)
        self._tls = self.security.server_context()
        folder = None
        if options.data:
            folder = Folder(
                options.data,
                cluster=options.cluster,
                node=options.id,
                range_count=options.ranges,
            )

        now_us = self.now_us()
        boot = folder.life(options.sync, together=options.together) if folder is not None else 0
        settings = _settings(options, self.security, boot or now_us, port)
        self.node = Node(settings, now_us, folder.saved if folder is not None else None)
        self.keeping: Keeping | None = None
        if folder is not None:
            self.keeping = Keeping(self.node, folder, options.sync, self.now_us, _write, _abort)
            self.recovery = folder.recovery
            self.node.admin.disk = self.keeping.figures
        self.node.admin.pid = os.getpid()
        self.node.state.log = self.log.info
        self.peers = Peers(self, options.join)
        self.clients: set[ClientConnection] = set()
        self._strangers: dict[ClientConnection, None] = {}  # who have not told the password
        self._ticks = 0
        self.stopping = asyncio.Event()
        self.failure = ""  # why the node ended by itself
        self._listener = listener
        self._server: asyncio.Server | None = None
        self._flush_due = False
        self._is_over = False  # the folder is given back: whatever comes yet has no effect
        self._tick_due = 0.0  # on the loop's clock
        self._refused_clients = 0

    def now_us(self) -> int:
        """Return microseconds since 1970."""
        return (time.monotonic_ns() + self.clock_offset_ns) // 1000

    # -- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to serve, and to look for the other members."""
        self._server = await self._loop.create_server(
            lambda: ClientConnection(self),
            sock=self._listener,
            backlog=BACKLOG,
            ssl=self._tls,
            ssl_handshake_timeout=TLS_HANDSHAKE_SECONDS if self._tls is not None else None,
        )
        if not self.options.join:
            self.node.membership.alone(self.now_us())
        self.peers.tick()
        self._tick_due = self._loop.time() + TICK_US / 1e6
        self._loop.call_at(self._tick_due, self._tick)

    async def run(self) -> None:
        """Serve until `stopping` is set or the node has left its cluster; then drain."""
        await self.stopping.wait()
        await self._drain()

    async def _drain(self) -> None:
        """Answer what was asked and turn away what comes yet, then close everything."""
        if self._server is not None:
            self._server.close()
        self.node.state.end_service()
        # Clients learn of it by a refusal: nothing was done, and they can go elsewhere. Whoever
        # goes on here loses its connection; whoever sends nothing loses nothing by that.
        now = self._loop.time()
        deadline, told = now + DRAIN_SECONDS_MAX, now + DRAIN_TELL_SECONDS
        while self._loop.time() < deadline:
            if not self._is_owing and (not self.clients or self._loop.time() >= told):
                break
            self._flush()
            await asyncio.sleep(0.005)
        for client in list(self.clients):
            client.transport.close()
        self.peers.close()
        await asyncio.sleep(0)
        self._is_over = True
        if self.keeping is not None:
            self.keeping.close()

    @property
    def _is_owing(self) -> bool:
        """Whether somebody waits for an answer."""
        if self.keeping is not None and self.keeping.is_busy:
            return True
        return any(client.session.busy for client in self.clients)

    def _tick(self) -> None:
        if self._is_over:
            return
        now = self._loop.time()
        lag_us = self.node.admin.loop_lag_us = max(0, round((now - self._tick_due) * 1e6))
        self._tick_due = now + TICK_US / 1e6
        self._loop.call_at(self._tick_due, self._tick)
        node = self.node
        node.tick(self.now_us(), lag_us)
        if self.keeping is not None:
            self.keeping.tick()
        self.peers.tick()
        self.touch()
        self._ticks += 1
        if self._ticks % TICKS_PER_WEIGHING == 0:
            self._weigh()
        if node.refused:
            self.failure = node.refused
            self.stopping.set()
        elif node.state.left and not node.transfers.giving:
            self.log.info("%s has left the cluster", self.options.id)
            self.stopping.set()

    def _weigh(self) -> None:
        """Cut off the heaviest clients where all together hold too much memory."""
        total = sum(client.held_bytes for client in self.clients)
        if total <= CLIENT_BYTES_MAX:
            return
        for client in sorted(self.clients, key=lambda one: one.held_bytes, reverse=True):
            total -= client.held_bytes
            self.node.state.counters["heavy_clients"] += 1
            client.transport.abort()
            if total <= CLIENT_BYTES_MAX:
                return

    # -- what connections call ------------------------------------------------------------------

    def touch(self) -> None:
        """Something happened: tell peers and release replies before this loop turn ends."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._is_over:
            return
        node = self.node
        for peer, data in node.take_frames():
            self.peers.send(peer, data)
        for batch in node.finished:
            client = cast("ClientConnection | None", batch.conn.conn)
            if client is not None:  # else it went away before its replies were there
                client.release()
        if self.keeping is not None:
            self.keeping.end_turn()

    def client_came(self, client: ClientConnection) -> None:
        """Count a client in, or turn it away when there are too many."""
        if len(self.clients) >= CLIENTS_MAX:
            self._refused_clients += 1
            self.node.state.counters["refused_connections"] += 1
            client.transport.abort()
            return
        self.clients.add(client)
        self.node.admin.connections = len(self.clients)
        if client.session.is_stranger:
            self._strangers[client] = None
            if len(self._strangers) > STRANGERS_MAX:
                self.node.state.counters["refused_connections"] += 1
                next(iter(self._strangers)).transport.abort()

    def client_known(self, client: ClientConnection) -> None:
        """A client has told the password."""
        self._strangers.pop(client, None)

    def client_went(self, client: ClientConnection) -> None:
        """Count a client out."""
        self.clients.discard(client)
        self._strangers.pop(client, None)
        self.node.admin.connections = len(self.clients)

    def adopt_peer(self, client: ClientConnection, data: bytes) -> None:
        """Hand over a connection that turned out to be a peer's."""
        self.client_went(client)
        self.peers.accept(client.transport, data)


def _settings(options: NodeOptions, security: Security, boot: int, port: int) -> Settings:
    """Return what a node is told of itself for one life; `port` is the one that it listens on."""
    majority = options.replication // 2 + 1
    address = f"{options.host}:{port}"
    advertise = options.advertise or address
    return Settings(
        id=options.id,
        cluster=options.cluster,
        address=advertise,
        client_address=advertise if options.host in WILDCARDS else address,
        boot=boot,
        replication=options.replication,
        range_count=options.ranges,
        r=options.r or majority,
        w=options.w or majority,
        dead_after_ticks=options.dead_after_us // TICK_US,
        hint_bytes_max=options.hint_bytes_max,
        weight=options.weight,
        rack=options.rack,
        initial=options.initial,
        first_map=ClusterMap.from_builtins(options.first_map) if options.first_map else None,
        secret=security.peer_secret,
        password=Password(security.password) if security.password else None,
    )


def _offset_ns() -> int:
    """Return how far the wall clock is from the monotonic one.

    A process that is put aside between the two looks sees too little: the greatest is the best.
    """
    return max(time.time_ns() - time.monotonic_ns() for _ in range(5))


def _write(connection: ClientConnection | PeerConnection, data: bytes | None) -> None:
    """Send what may leave; a connection that has gone is its own business."""
    if isinstance(connection, PeerConnection):
        if data is not None:
            connection.write(data)
    elif not connection.transport.is_closing():
        if data is None:
            connection.transport.close()
        else:
            connection.transport.write(data)


def _abort(connection: ClientConnection | PeerConnection) -> None:
    connection.transport.abort()
