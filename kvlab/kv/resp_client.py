"""One RESP client as the node sees it: what it said about itself, and its requests, batch by batch.

It holds no socket and keeps no order between batches: that is `session`. What a command does is in
`resp_commands`; only GET and SET on a node that holds every range alone are also done here, as they
are the hot path (kv/alone.py is the same for JSON).

Invariants:

1. Every request gets exactly one reply, at its place in its batch.
2. All replies of a batch are in one version of the protocol: what comes after a change of it, or of
   what is allowed, is left in `state.rest` for the next batch.
3. A batch holds about REPLY_BYTES_MAX of values, as in `coordinator`.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from kvlab.kv.answer import LIGHT_BYTES_MAX, REPLY_BYTES_MAX
from kvlab.kv.node import Node
from kvlab.kv.resp_answer import RespBatch, as_stored
from kvlab.kv.resp_commands import run
from kvlab.kv.resp_connection import NOAUTH, WITHOUT_PASSWORD
from kvlab.ring.slot import slot_of
from kvlab.wire.limits import KEY_LIMIT_BYTES, VALUE_LIMIT_BYTES
from kvlab.wire.resp import RespError, RespReader
from kvlab.wire.resp_encode import NULL, OK, error
from kvlab.wire.value import live


class Rest(deque[Any]):
    """Requests that were left, taken from its head: a read of many of them is not copied for each."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self:
            raise StopIteration
        return self.popleft()


class RespClient:
    """The state of one connection that speaks RESP.

    `turn` is set by commands that change how what follows is taken; `quit` by those after which
    nothing is taken any more; `again` is the rest of a command that goes on when this batch has ended.
    """

    __slots__ = (
        "again",
        "began_us",
        "db",
        "id",
        "in_refused_multi",
        "library",
        "locked",
        "name",
        "node",
        "origin",
        "protocol",
        "quit",
        "reader",
        "turn",
    )

    def __init__(self, node: Node, now_us: int, origin: str = "") -> None:
        self.node = node
        self.origin = origin  # whose wrong passwords are counted
        self.reader = RespReader()
        self.protocol = 2
        self.db = 0  # the namespace: 0 is the eventual one, 1 the linear one
        self.name = b""
        self.library = {b"LIB-NAME": b"", b"LIB-VER": b""}
        self.began_us = now_us
        self.locked = node.state.settings.password is not None  # until the password is told
        self.in_refused_multi = False  # until EXEC or DISCARD nothing is begun
        self.turn = False
        self.quit = False
        self.again: list[bytes] | None = None
        # The number of this connection among those of RESP clients in this node's life.
        node.state.counters["resp_connections"] += 1
        self.id = node.state.counters["resp_connections"]

    def reset(self) -> None:
        """Begin anew, as if the connection had just been opened."""
        self.protocol, self.db, self.name = 2, 0, b""
        self.in_refused_multi, self.turn = False, True
        self.locked = self.node.state.settings.password is not None

    def receive(self, conn: Any, items: Sequence[Any], now_us: int) -> RespBatch | bytes:
        """Begin a batch of requests, in order; return the bytes of all replies if they are there.

        An item is a list of arguments, or the RespError that the reader raised, alone.
        """
        state = self.node.state
        state.requests += len(items)
        batch = RespBatch(conn, self.protocol, now_us)
        if isinstance(items[0], RespError):
            state.counters["bad_requests"] += 1
            self.quit = True
            return error(f"ERR {items[0].message}")
        each = items if isinstance(items, Rest) else iter(items)
        self.turn = True
        while self.turn and self._goes_on(batch):
            self.turn = False
            if self.locked:
                self._serve_locked(batch, each, now_us)
            elif state.solo and not self.db and not self.in_refused_multi:
                self._serve_alone(batch, each, now_us)
            else:
                self._serve(batch, each, now_us)
        if self.turn or not self._goes_on(batch):
            self._leave(each)
        if batch.plain and not batch.pending:
            return b"".join(batch.replies)
        return batch

    def _goes_on(self, batch: RespBatch) -> bool:
        """Whether what follows belongs to the same batch."""
        if self.quit or self.again is not None or batch.heavy_bytes > REPLY_BYTES_MAX:
            return False
        return batch.protocol == self.protocol

    def _leave(self, each: Iterator[Any]) -> None:
        """Leave requests to the session: another batch is for them, or nobody if this is the end."""
        state = self.node.state
        left = each if isinstance(each, Rest) else Rest(each)
        if self.again is not None:
            left.appendleft(self.again)
            self.again = None
        state.requests -= len(left)
        if not self.quit:
            state.rest = left

    def _serve_locked(self, batch: RespBatch, each: Iterator[Any], now_us: int) -> None:
        """Do what may be asked before the password; refuse the rest."""
        for args in each:
            if args[0].upper() in WITHOUT_PASSWORD:
                run(self, batch, args, now_us)
            else:
                batch.replies.append(NOAUTH)
                self.node.state.counters["bad_requests"] += 1
            if self.turn:
                return

    def _serve(self, batch: RespBatch, each: Iterator[Any], now_us: int) -> None:
        """Do a batch of any commands."""
        for args in each:
            run(self, batch, args, now_us)
            if self.turn or batch.heavy_bytes > REPLY_BYTES_MAX:
                return

    def _serve_alone(self, batch: RespBatch, each: Iterator[list[bytes]], now_us: int) -> None:
        """Do a batch where nobody else must be asked; all that is not GET or SET goes to `run`."""
        state = self.node.state
        table, shift, next_version = state.table, state.shift, state.clock.next
        ranges = table.ranges
        add, null = batch.replies.append, NULL[self.protocol]
        for args in each:
            verb, count = args[0], len(args)
            if (verb == b"GET" and count == 2) or (verb == b"SET" and count == 3):
                key = args[1]
                if key.isascii() and len(key) <= KEY_LIMIT_BYTES:
                    # 123 is "{": looking for a number in bytes is faster than for b"{".
                    slot = slot_of(key) if 123 in key else crc_hqx(key, 0) & 16383
                    index = slot >> shift
                    record = ranges[index].get(key)
                    value = None if record is None else live(record[1], now_us)
                    if count == 2:
                        if value is None:
                            add(null)
                            continue
                        data = value.encode() if isinstance(value, str) else value
                        size = len(data)
                        add(b"$%d\r\n%b\r\n" % (size, data))
                        if size > LIGHT_BYTES_MAX:
                            batch.heavy_bytes += size
                            if batch.heavy_bytes > REPLY_BYTES_MAX:
                                return
                        continue
                    if len(args[2]) <= VALUE_LIMIT_BYTES:
                        version = next_version(now_us)
                        if table.put(index, key, version, as_stored(args[2])):
                            add(OK)
                            continue
                        # A newer version is here, of a faster clock: the long way writes above it.
            run(self, batch, args, now_us)
            if self.turn or batch.heavy_bytes > REPLY_BYTES_MAX:
                return
