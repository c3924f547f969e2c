"""One connection through the shim: a caller's side, the node's side, and the two ways between.

It chooses no rule and finds no caller: the relay gives it its links. Invariants:

1. The node is dialled only when the connect may pass; until then nothing of the caller reaches it.
2. An end of stream (half-close) passes as one; a broken side breaks the other, behind the bytes.
3. A connection leaves the relay exactly once, whatever happens to its sides.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Final, cast

from kvlab.fault.link import ConnectFate, connect_fate
from kvlab.lab.shim_way import Link, Mark, Room, Way

if TYPE_CHECKING:
    from kvlab.lab.shim_caller import Address

_LINGER_NONE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of 0: closing sends a reset."""


class Port:
    """What a connection needs of the relay that accepted it."""

    def accepted(self, connection: Connection) -> bool:
        """Say if one more connection is welcome; if so, give it its links."""
        raise NotImplementedError

    def upstream(self, target: str) -> Address:
        """Give the node's own address."""
        raise NotImplementedError

    def forget(self, connection: Connection) -> None:
        """Drop the connection from the books."""
        raise NotImplementedError


class Side(asyncio.Protocol):
    """One socket of a connection: reads for one way, and is the sink of the other."""

    __slots__ = ("connection", "into", "lost", "out", "transport")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.out: Way | None = None
        self.into: Way | None = None
        self.transport: asyncio.Transport | None = None
        self.lost = False

    def data_received(self, data: bytes) -> None:
        """Pass bytes on: straight through if the way is plain."""
        way = self.out
        if way is None:
            return
        if way.plain:
            way.link.bytes += len(data)
            way.link.chunks += 1
            try:
                way.sink.write(data)  # type: ignore[union-attr]  # plain has a sink
            except RuntimeError:  # uvloop: closed under us; its connection_lost follows
                way.plain = False
        else:
            way.feed(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the socket to the connection."""
        self.transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection.made(self)

    def eof_received(self) -> bool:
        """Pass the half-close on and keep the other direction open."""
        if self.out is not None:
            self.connection.ended(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Break the other side too, unless the connection is over anyway."""
        self.lost = True
        self.connection.side_lost(self)

    def pause_writing(self) -> None:
        """Stop handing bytes to this socket, and reading those for it."""
        if self.into is not None:
            self.into.blocked = True
            self.into.settle()

    def resume_writing(self) -> None:
        """Go on where `pause_writing` stopped."""
        if self.into is not None:
            self.into.unblock()

    def abort(self) -> None:
        """Send a reset."""
        if self.transport is not None and not self.lost:
            with contextlib.suppress(OSError):
                sock = self.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            self.transport.abort()


class Connection:
    """An accepted connection to the shim of `target`, and the one it opens to the node itself."""

    __slots__ = (
        "back",
        "closed",
        "dialling",
        "far",
        "forward",
        "hung",
        "inode",
        "near",
        "port",
        "source",
        "target",
    )

    def __init__(self, port: Port, target: str) -> None:
        self.port = port
        self.target = target
        self.source = ""
        self.inode = 0  # of the caller's socket
        self.near = Side(self)
        self.far = Side(self)
        self.forward: Way | None = None
        self.back: Way | None = None
        self.dialling: asyncio.Task[None] | None = None
        self.hung = False  # the connect waits for its link
        self.closed = False

    def join(self, source: str, out: Link, back: Link, room: Room) -> None:
        """Learn the caller and the links; called once, by the relay."""
        self.source = source
        self.forward = self.near.out = self.far.into = Way(self, out, room)
        self.back = self.far.out = self.near.into = Way(self, back, room)
        self.forward.source = self.back.sink = self.near.transport
        out.connections += 1
        out.opened += 1

    def move(self, source: str, out: Link, back: Link) -> None:
        """Learn a better answer to who the caller is."""
        assert self.forward is not None
        assert self.back is not None
        self.forward.link.connections -= 1
        self.forward.link.opened -= 1
        out.connections += 1
        out.opened += 1
        self.source = source
        self.forward.move(out)
        self.back.move(back)

    def uses(self, links: set[Link]) -> bool:
        """Say if one of the two ways belongs to one of these links."""
        return self.forward is not None and (
            self.forward.link in links or (self.back is not None and self.back.link in links)
        )

    def made(self, side: Side) -> None:
        """Go on when one of the sockets is there."""
        if self.closed:
            side.abort()
        elif side is self.near:
            if self.port.accepted(self):
                self.connect()
            else:
                self.closed = True
                side.abort()
        elif self.forward is not None and self.back is not None and side.transport is not None:
            self.dialling = None
            self.back.source = side.transport
            self.forward.open(side.transport)

    def connect(self) -> None:
        """Ask the links about the connect, and do what they say. A hung one may ask again."""
        assert self.forward is not None
        assert self.back is not None
        out = self.forward.link
        answer: ConnectFate = connect_fate(out.rule, self.back.link.rule)
        if answer == "refuse":
            out.refused += 1
            self.break_off(None)
        elif answer == "hang":
            out.hung += not self.hung
            self.hung = True
        else:
            self.hung = False
            self.dialling = asyncio.get_running_loop().create_task(self._dial())

    def ended(self, side: Side) -> None:
        """Pass an end of stream on. A caller that gives a hung connect up was never connected."""
        if self.hung:
            self.break_off(None)
        elif side.out is not None:
            side.out.finish(Mark.END)

    def way_ended(self) -> None:
        """Close when both streams are over."""
        ways = (self.forward, self.back)
        if all(way is not None and way.ended for way in ways):
            self._close(abort=False)

    def side_lost(self, side: Side) -> None:
        """Pass a broken side on as a reset, behind the bytes that it sent."""
        if self.closed or side.out is None or side.into is None:
            return
        other = self.far if side is self.near else self.near
        if other.lost or other.transport is None:
            self._close(abort=True)
            return
        side.into.kill()
        side.out.finish(Mark.RESET)

    def break_off(self, link: Link | None) -> None:
        """Reset both sides; `link` is the one whose rule wants it, if one does."""
        if not self.closed:
            if link is not None:
                link.resets += 1
            self._close(abort=True)

    def _close(self, *, abort: bool) -> None:
        self.closed = True
        if self.dialling is not None:
            self.dialling.cancel()
        for side in (self.near, self.far):
            if abort:
                side.abort()
            elif side.transport is not None and not side.lost:
                side.transport.close()
        if self.forward is not None and self.back is not None:
            self.forward.kill()
            self.back.kill()
            self.forward.link.connections -= 1
        self.port.forget(self)

    async def _dial(self) -> None:
        assert self.forward is not None
        assert self.back is not None
        host, port = self.port.upstream(self.target)
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.far, host, port)
        except OSError:  # the node is not there: the caller shall feel a refusal
            self.dialling = None
            self.forward.link.refused += 1
            self.back.finish(Mark.RESET)
