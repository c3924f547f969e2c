"""One client's connection to a node: bytes in, replies out, in order. No meaning of a request.

A connection whose first bytes are a peer's is handed to `live.peers`.

Invariants:

1. Replies leave in the order of requests; a batch leaves in one write.
2. A client that does not read is not read from, and what it asked for is not begun: about
   WRITE_BYTES_HIGH of replies and one batch (kv/coordinator.py) wait for it.
3. What a client does, or its going away, never raises into another's callbacks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from kvlab.kv.answer import REPLY_BYTES_MAX, Batch
from kvlab.wire.json_lines import JsonReader, PlainRequest, Refusal
from kvlab.wire.sniff import Protocol, sniff

if TYPE_CHECKING:
    from kvlab.live.server import Server

BATCHES_MAX = 256  # batches under way per connection; beyond it nothing more is read
WRITE_BYTES_HIGH = 1024 * 1024  # of replies that the socket has not taken: no more are made
PARTIAL_SECONDS_MAX = 30.0  # an unfinished document may wait so long for its rest

_NOT_JSON = {
    Protocol.RESP: b"-ERR this node speaks JSON lines; RESP is not served by this version\r\n",
    Protocol.HTTP: (
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 38\r\n\r\n"
        b"this is a kvlab node: send JSON lines\n"
    ),
}


class Held(NamedTuple):
    """Requests that were read and wait until the client has taken the replies before theirs."""

    items: Sequence[Any]
    plain: bool
    camel: bool
    uniform: bool


class ClientConnection(asyncio.Protocol):
    """A connection that was accepted."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.reader = JsonReader()
        self.queue: deque[Batch] = deque()
        self.held: deque[Held] = deque()
        self.closing = False  # close when all replies are out
        self.gone = False
        self._sniffed = False
        self._write_paused = False
        self._read_paused = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BYTES_HIGH)
        self.server.client_came(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The client went; what it still waits for ends without being written."""
        self.gone = True
        self.queue.clear()
        self.held.clear()
        if self._timer is not None:
            self._timer.cancel()
        self.server.client_went(self)

    def data_received(self, data: bytes) -> None:
        """Requests, or pieces of them."""
        if not self._sniffed:
            data = self._sniff(data)
            if not data:
                return
        if self.closing:
            return
        reader = self.reader
        plain = reader.plain(data)
        if plain:
            server = self.server
            node = server.node
            if node.state.solo and not self.held and not self.queue:
                # The shortest way: a node without peers has all its replies at once.
                now_us = (monotonic_ns() + server.clock_offset_ns) // 1000
                self._write(node.serve_alone(plain, now_us, camel=reader.camel))
                if node.state.rest:
                    self._hold(Held(plain, plain=True, camel=reader.camel, uniform=True))
            else:
                self._receive_plain(plain)
        else:
            self._receive(data)

    def _receive_plain(self, plain: list[PlainRequest]) -> None:
        """Begin requests without options, or hold them until their turn."""
        reader, server = self.reader, self.server
        held = Held(plain, plain=True, camel=reader.camel, uniform=True)
        if self.held:
            self.held.append(held)
            return
        done = server.node.receive_plain(self, plain, server.now_us(), camel=reader.camel)
        if server.node.state.rest:
            self._hold(held)
        self._take(done)

    def _receive(self, data: bytes) -> None:
        """Begin requests of any kind, or hold them until their turn."""
        reader = self.reader
        items = reader.feed(data)
        if items:
            last = items[-1]
            if type(last) is Refusal and last.close:
                self.closing = True
            self.held.append(Held(items, plain=False, camel=reader.camel, uniform=reader.uniform))
            if len(self.held) == 1:
                self._begin()
        if reader.waiting_bytes or self._timer is not None:
            self._watch_partial()

    def _begin(self) -> None:
        """Begin the first of the held requests; what would be too heavy stays held."""
        node, now_us = self.server.node, self.server.now_us()
        begun = self.held.popleft()
        done: Batch | bytes
        if begun.plain:
            done = node.receive_plain(self, begun.items, now_us, camel=begun.camel)
        else:
            done = node.receive(self, begun.items, now_us, camel=begun.camel, uniform=begun.uniform)
        if node.state.rest:
            self._hold(begun)
        self._take(done)

    def _hold(self, begun: Held) -> None:
        """Keep what the node left of requests, as the first to go on with."""
        state = self.server.node.state
        self.held.appendleft(begun._replace(items=state.rest))
        state.rest = ()
        self._throttle()
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Begin held requests where there is room for their replies again."""
        if self.held and not self._write_paused and not self.queue and not self.gone:
            self._begin()
        self._throttle()

    def _take(self, batch: Batch | bytes) -> None:
        """Write a batch that has ended, or queue it until it has."""
        queue = self.queue
        if isinstance(batch, bytes):
            batch = Batch.of(self, batch)
        if not queue and not batch.pending:
            self._write(batch.encode())
        else:
            queue.append(batch)
            if len(queue) >= BATCHES_MAX or batch.heavy_bytes > REPLY_BYTES_MAX // 4:
                self._throttle()
        self.server.touch()

    def eof_received(self) -> bool:
        """The client will send nothing more; it may still read its replies."""
        self.closing = True
        return self.busy

    @property
    def busy(self) -> bool:
        """Whether replies are still to be made."""
        return bool(self.queue or self.held)

    def release(self) -> None:
        """Write the replies of all batches at the head of the queue that have ended."""
        queue = self.queue
        if self.gone or not queue or queue[0].pending:
            return
        parts = []
        while queue and not queue[0].pending:
            parts.append(queue.popleft().encode())
        self._write(parts[0] if len(parts) == 1 else b"".join(parts))
        if self.held:
            self._go_on()
        elif self._read_paused:
            self._throttle()

    def _write(self, data: bytes) -> None:
        transport = self.transport
        if transport.is_closing():
            # uvloop raises on a write to a closing transport, into whoever's callback this is.
            return
        transport.write(data)
        if self.closing and not self.busy:
            transport.close()

    # -- bounds ---------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read."""
        self._write_paused = True
        self._throttle()

    def resume_writing(self) -> None:
        """Go on with what was held, and then with reading."""
        self._write_paused = False
        self._go_on()

    def _throttle(self) -> None:
        queue = self.queue
        pause = self._write_paused or bool(self.held) or len(queue) >= BATCHES_MAX // 2
        if not pause and queue:
            pause = sum(batch.heavy_bytes for batch in queue) > REPLY_BYTES_MAX
        if pause == self._read_paused or self.transport.is_closing():
            return
        self._read_paused = pause
        if pause:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _watch_partial(self) -> None:
        """Give an unfinished document a bounded time."""
        if not self.reader.waiting_bytes:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(
                PARTIAL_SECONDS_MAX, self._partial_expired
            )

    def _partial_expired(self) -> None:
        self._timer = None
        if self.gone or not self.reader.waiting_bytes:
            return
        if self._read_paused:  # the rest may well be there: it is this node that does not read
            self._watch_partial()
            return
        self.server.node.state.counters["partial_timeouts"] += 1
        error = f"half a document, then silence for {PARTIAL_SECONDS_MAX:g} s"
        self._refuse(Refusal("BAD_REQUEST", error, self.reader.camel, close=True))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with an error of the shell's own, in turn, and close."""
        self.closing = True
        batch = self.server.node.receive(self, [refusal], self.server.now_us(), uniform=False)
        self.queue.append(batch)
        self.release()

    # -- the first bytes ------------------------------------------------------------------------

    def _sniff(self, data: bytes) -> bytes:
        """Return the bytes for the JSON reader, or b"" when the connection is another's business."""
        kind = sniff(data)
        if kind is Protocol.PEER:
            self.server.adopt_peer(self, data)
            return b""
        if kind in _NOT_JSON:
            self.server.node.state.counters["bad_requests"] += 1
            self.transport.write(_NOT_JSON[kind])
            self.transport.close()
            return b""
        self._sniffed = True  # JSON, or rubbish of which the reader says so
        return data
