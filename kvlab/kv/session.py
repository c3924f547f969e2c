"""One client's connection, without its socket: bytes in, replies out, in order, within bounds.

It does not know what a request means: that is `node`, and `resp_client` for those who speak RESP. A
shell (`live.clients`, `sim.host`) tells what happened, writes the bytes that each call returns, and
then looks at the state named in ClientSession.

Invariants:

1. Replies leave in the order of requests, each batch in one piece.
2. A client that does not read is not read from, and what it asked for is not begun: about
   WRITE_BYTES_HIGH of replies and one batch (kv/coordinator.py) wait for it.
3. No request is left in `state.rest`: another client's would take its place.
4. Once `close_due` is true it stays so, and no call returns bytes any more.
5. Where there is a password, nothing is begun for who has not told it but what needs none, and no
   more than LOCKED_BYTES_MAX of a request is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from kvlab.kv import metrics
from kvlab.kv.answer import REPLY_BYTES_MAX, Batch
from kvlab.kv.node import Node
from kvlab.kv.password import LOCKED_BYTES_MAX, TOO_LONG, let_in
from kvlab.kv.peering import NEVER_US
from kvlab.kv.resp_client import RespClient
from kvlab.wire.http import HttpReader, encode_reply
from kvlab.wire.json_lines import JsonReader, PlainRequest, Refusal, Request
from kvlab.wire.resp import RespError
from kvlab.wire.sniff import Protocol, sniff

BATCHES_MAX = 256  # batches under way per connection; beyond it nothing more is read
REQUESTS_MAX = 16_384  # ... and requests
PARTIAL_US_MAX = 30_000_000  # an unfinished document may wait so long for its rest
# For the shell: of replies that the transport has not taken. Beyond it, `pause_writing`.
WRITE_BYTES_HIGH = 1024 * 1024
STALLED_US_MAX = 60_000_000  # a client that takes so little in this time is cut off


class Held(NamedTuple):
    """Requests that wait until the client has taken the replies before theirs; `plain`...: JSON."""

    items: Sequence[Any]
    plain: bool = False
    camel: bool = False
    uniform: bool = True


class ClientSession:
    """One connection that a client opened. `conn` belongs to the shell.

    `stirred` says that a call did more than return bytes: look at the rest, and set it back.

        peer_data     not empty: a peer called; hand these bytes and the connection to the peering
        close_due     close the connection after what was written
        read_paused   do not read from the client for now
        deadline_us   call `expire` when it is over
        wants_turn    call `go_on` in the next loop turn
        (otherwise)   the node has begun something: take its frames before this turn ends

    The session is the `conn` of each Batch that it began; call `release` when one has finished.
    """

    __slots__ = (
        "_asked",
        "_http",
        "_json",
        "_locked",
        "_node",
        "_resp",
        "_state",
        "_unheard",
        "_write_paused",
        "closing",
        "conn",
        "deadline_us",
        "held",
        "origin",
        "peer_data",
        "queue",
        "read_paused",
        "reader",
        "stirred",
    )

    def __init__(self, node: Node) -> None:
        self.conn: Any = None
        self.origin = ""  # the address, which the shell knows
        self.reader = JsonReader()
        self.queue: deque[Batch] = deque()  # begun; the first has not ended
        self.held: deque[Held] = deque()  # read, not begun
        self.stirred = False
        self.closing = False  # nothing more is taken; close when all replies are out
        self.read_paused = False
        self.deadline_us = NEVER_US  # of the document whose rest is missing
        self.peer_data = b""
        self._node = node
        self._state = node.state
        self._json = False  # the first bytes were those of a client that speaks JSON
        self._locked = False  # ... and has not told the password
        self._resp: RespClient | None = None  # ... or RESP
        self._http: HttpReader | None = None  # ... or a probe that speaks HTTP
        self._write_paused = False
        self._asked = 0  # requests in `queue`
        self._unheard = False  # reading was paused in the time that `deadline_us` ends

    @property
    def busy(self) -> bool:
        """Whether replies are still to be made."""
        return bool(self.queue or self.held)

    @property
    def close_due(self) -> bool:
        """Whether all replies are out and nothing more will be taken."""
        return self.closing and not self.queue and not self.held

    @property
    def wants_turn(self) -> bool:
        """Whether nothing stands in the way of held requests. Other clients come between."""
        return bool(self.held) and not self.queue and not self._write_paused

    @property
    def is_stranger(self) -> bool:
        """Whether there is a password, and the client has not told it."""
        if self._resp is not None:
            return self._resp.locked
        return not self._json and self._state.settings.password is not None

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of an unfinished request are kept."""
        return (self._resp or self).reader.waiting_bytes

    # -- the client -----------------------------------------------------------------------------

    def feed(self, data: bytes, now_us: int) -> bytes:
        """Take requests, or pieces of them; return the replies that can be written now."""
        if not self._json and (self._is_other or not self._is_json(data, now_us)):
            return self._feed_other(data, now_us)
        if self.closing:
            return b""
        reader = self.reader
        plain = reader.plain(data)
        if not plain:
            return self._receive(data, now_us)
        if self._state.solo and not self.held and not self.queue:
            # The shortest way: a node without peers has all its replies at once.
            replies = self._node.serve_alone(plain, now_us, camel=reader.camel)
            if self._state.rest:
                self._hold(Held(plain, plain=True, camel=reader.camel, uniform=True))
            return replies
        return self._receive_plain(plain, now_us)

    def eof(self) -> None:
        """The client will send nothing more; it may still read its replies."""
        self.closing = self.stirred = True
        self.deadline_us = NEVER_US

    def gone(self) -> None:
        """The connection is over; what the client still waits for ends without being written."""
        self.closing = self.stirred = True
        self.deadline_us = NEVER_US
        self.queue.clear()
        self.held.clear()

    def _is_json(self, data: bytes, now_us: int) -> bool:
        """Look at the first bytes. Whatever is not another's business is the JSON reader's."""
        kind = sniff(data)
        if kind is Protocol.RESP:
            self._resp = RespClient(self._node, now_us, self.origin)
        elif kind is Protocol.PEER:
            self.peer_data = data
            self.stirred = True
        elif kind is Protocol.HTTP:
            self._http = HttpReader()
        else:
            self._locked = self._state.settings.password is not None
            self._json = not self._locked  # or rubbish, of which the reader says so
        return self._json

    def _feed_other(self, data: bytes, now_us: int) -> bytes:
        """Take what is not JSON, or of a client that has not told the password."""
        if self._resp is not None:
            return self._receive_resp(self._resp, data, now_us)
        if self.closing:
            return b""
        if self._http is None:
            return self._receive(data, now_us) if self._locked else b""
        asked = self._http.feed(data)
        if asked is None:
            self._see_to_rest(now_us, waits=True, whole=False)
            return b""
        self.closing = self.stirred = True
        self.deadline_us = NEVER_US
        if isinstance(asked, int):
            self._state.counters["bad_requests"] += 1
            return encode_reply(asked, metrics.WHERE)
        who = self._http.authorization, self.origin
        return metrics.answer(self._node.admin, *asked, now_us, *who)

    @property
    def _is_other(self) -> bool:
        return bool(self._resp or self._http or self._locked)

    # -- requests -------------------------------------------------------------------------------

    def _receive_plain(self, plain: list[PlainRequest], now_us: int) -> bytes:
        """Begin requests without options, or hold them until their turn."""
        camel = self.reader.camel
        if self.held:
            self.held.append(Held(plain, plain=True, camel=camel, uniform=True))
            return b""
        done = self._node.receive_plain(self, plain, now_us, camel=camel)
        if self._state.rest:
            self._hold(Held(plain, plain=True, camel=camel, uniform=True))
        return self._take(done)

    def _receive(self, data: bytes, now_us: int) -> bytes:
        """Begin requests of any kind, or hold them until their turn."""
        reader = self.reader
        items = reader.feed(data)
        uniform = reader.uniform
        if self._locked:
            self._unlock(items, now_us)
            uniform = False
        replies = b""
        if items:
            last = items[-1]
            self.closing = type(last) is Refusal and last.close
            replies = self._submit(
                Held(items, plain=False, camel=reader.camel, uniform=uniform), now_us
            )
        waits = reader.waiting_bytes > 0
        if waits or self.deadline_us != NEVER_US:
            self._see_to_rest(now_us, waits=waits, whole=bool(items))
        return replies

    def _unlock(self, items: list[Request | Refusal], now_us: int) -> None:
        """Refuse what comes before the password, and go on as with anybody once that has come."""
        state, reader = self._state, self.reader
        word = state.settings.password
        if word is None or let_in(state.attempts, word, items, self.origin, now_us):
            self._locked, self._json = False, True
            self.stirred = True
        elif reader.waiting_bytes > LOCKED_BYTES_MAX:
            items.append(Refusal("NOAUTH", TOO_LONG, reader.camel, close=True))

    def _receive_resp(self, client: RespClient, data: bytes, now_us: int) -> bytes:
        """Begin requests in RESP, or hold them until their turn."""
        if self.closing:
            return b""
        reader = client.reader
        broken: RespError | None = None
        try:
            items = reader.feed(data)
        except RespError as error:
            items, broken = error.requests, error
        if client.locked and broken is None and reader.waiting_bytes > LOCKED_BYTES_MAX:
            broken = RespError(TOO_LONG)
        replies = self._submit(Held(items), now_us) if items else b""
        if broken is not None and not self.closing:
            replies += self._submit(Held([broken]), now_us)
            self.closing = self.stirred = True
        waits = reader.is_waiting and not self.closing
        if waits or self.deadline_us != NEVER_US:
            self._see_to_rest(now_us, waits=waits, whole=bool(items))
        return replies

    def _submit(self, requests: Held, now_us: int) -> bytes:
        """Begin requests, unless others wait before them."""
        self.held.append(requests)
        return self._begin(now_us) if len(self.held) == 1 else b""

    def _begin(self, now_us: int) -> bytes:
        """Begin the first of the held requests; what would be too heavy stays held."""
        node = self._node
        begun = self.held.popleft()
        done: Batch | bytes
        if self._resp is not None:
            self.stirred = self.stirred or self._resp.locked  # it may be no stranger any more
            done = self._resp.receive(self, begun.items, now_us)
            if self._resp.quit:
                self.closing = self.stirred = True
                self.held.clear()
                self.deadline_us = NEVER_US
        elif begun.plain:
            done = node.receive_plain(self, begun.items, now_us, camel=begun.camel)
        else:
            done = node.receive(self, begun.items, now_us, camel=begun.camel, uniform=begun.uniform)
        if self._state.rest:
            self._hold(begun)
        elif isinstance(done, bytes) and not self.queue and not self.held:
            return done  # and there is nothing else to look at
        return self._take(done)

    def _hold(self, begun: Held) -> None:
        """Keep what the node left of requests, as the first to go on with."""
        state = self._state
        self.held.appendleft(begun._replace(items=state.rest))
        state.rest = ()
        self.stirred = True
        self._throttle()

    def _take(self, done: Batch | bytes) -> bytes:
        """Return the replies of a batch that has ended, or queue it until its turn."""
        self.stirred = True
        queue = self.queue
        batch = Batch.of(self, done) if isinstance(done, bytes) else done
        if not queue and not batch.pending:
            return batch.encode()
        queue.append(batch)
        self._asked += len(batch.replies)
        heavy = batch.heavy_bytes > REPLY_BYTES_MAX // 4
        if heavy or len(queue) >= BATCHES_MAX or self._asked >= REQUESTS_MAX:
            self._throttle()
        return b""

    # -- replies --------------------------------------------------------------------------------

    def release(self) -> bytes:
        """Return the replies of all batches at the head of the queue that have ended."""
        queue = self.queue
        if not queue or queue[0].pending:
            return b""
        parts = []
        while queue and not queue[0].pending:
            batch = queue.popleft()
            self._asked -= len(batch.replies)
            parts.append(batch.encode())
        if self.read_paused:
            self._throttle()
        if self.held or self.closing:
            self.stirred = True
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def go_on(self, now_us: int) -> bytes:
        """Begin held requests where there is room for their replies again."""
        replies = self._begin(now_us) if self.wants_turn else b""
        self._throttle()
        return replies

    # -- bounds ---------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The transport is full: the client does not read."""
        self._write_paused = True
        self._throttle()

    def resume_writing(self, now_us: int) -> bytes:
        """The transport has room again: go on with what was held, and then with reading."""
        self._write_paused = False
        return self.go_on(now_us)

    def expire(self, now_us: int) -> bytes:
        """Time went by: refuse half a document whose rest did not come, and close."""
        if now_us < self.deadline_us:
            return b""
        if self._unheard:  # the rest may well be there: it was this node that did not read
            self._await_rest(now_us)
            return b""
        self.deadline_us = NEVER_US
        self.closing = self.stirred = True
        self._state.counters["partial_timeouts"] += 1
        silence = f"then silence for {PARTIAL_US_MAX / 1e6:g} s"
        if self._http is not None:
            return b""
        if self._resp is not None:
            return self._submit(Held([RespError(f"half a request, {silence}")]), now_us)
        camel = self.reader.camel
        refusal = Refusal("BAD_REQUEST", f"half a document, {silence}", camel, close=True)
        return self._submit(Held([refusal], camel=camel, uniform=False), now_us)

    def _see_to_rest(self, now_us: int, *, waits: bool, whole: bool) -> None:
        """Note whether the rest of a document or request is awaited. `whole`: others came whole."""
        if waits and (whole or self.deadline_us == NEVER_US):
            # Each has its own time, however long the client goes on sending.
            self._await_rest(now_us)
        elif not waits and self.deadline_us != NEVER_US:
            self.deadline_us = NEVER_US
            self.stirred = True

    def _await_rest(self, now_us: int) -> None:
        """Give an unfinished document its time, all of which this node must be reading."""
        self.deadline_us = now_us + PARTIAL_US_MAX
        self._unheard = self.read_paused
        self.stirred = True

    def _throttle(self) -> None:
        """Stop or go on reading, as the bounds say."""
        queue = self.queue
        pause = self._write_paused or bool(self.held) or len(queue) >= BATCHES_MAX // 2
        pause = pause or self._asked >= REQUESTS_MAX // 2
        if not pause and queue:
            pause = sum(batch.heavy_bytes for batch in queue) > REPLY_BYTES_MAX
        if pause != self.read_paused:
            self.read_paused = pause
            self._unheard = self.stirred = True
