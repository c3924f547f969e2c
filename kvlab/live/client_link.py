"""One connection of the async client: batches of requests out, replies matched to them in order.

It does not connect, choose addresses or repeat anything: `client.py` does.

Invariants:

1. Replies belong to requests by order alone, so a batch that was given up keeps its place among
   those sent until all its replies came or the connection ended.
2. What was handed to the transport counts as sent, whatever became of it; what was not, was not.
3. Every batch ends exactly once: with all its replies, or with a LinkError.
4. A loop turn writes once, or as often as there are WRITE_BYTES; what is received only resolves
   futures that are there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from kvlab.live.client_rules import (
    BAD_REPLY,
    BUSY,
    TIMEOUT,
    UNAVAILABLE,
    Address,
    Limits,
    LinkError,
    lost_reason,
)
from kvlab.wire.json_lines import ProtocolError, Reply, ReplyReader

WRITE_BYTES: Final = 1 << 18
"""What is handed to the transport at a time, so that a slow peer is noticed before all is sent."""


class Batch:
    """Some encoded requests that travel together, and the replies that have come for them."""

    __slots__ = ("count", "data", "deadline", "done", "given_up", "replies", "timeout_s")

    def __init__(
        self, data: bytes, count: int, done: asyncio.Future[None], now: float, timeout_s: float
    ) -> None:
        self.data = data
        self.count = count
        self.done = done
        self.timeout_s = timeout_s
        self.deadline = now + timeout_s
        self.replies: list[Reply] = []
        self.given_up = False


class Link(asyncio.Protocol):
    """A connection to one address. `on_change(link)` is called when it may have to be replaced."""

    def __init__(
        self,
        address: Address,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        on_change: Callable[[Link], None],
    ) -> None:
        self.address = address
        self.closed: asyncio.Future[None] = loop.create_future()
        self.alive = False
        self.answered = False  # a connect succeeds even where nobody listens: a reply is proof
        self.lost = 0  # requests sent and given up, whose replies may still come
        self.reason = ""
        self._limits = limits
        self._loop = loop
        self._on_change = on_change
        self._transport: asyncio.Transport | None = None
        self._reader = ReplyReader()
        self._waiting: deque[Batch] = deque()
        self._sent: deque[Batch] = deque()
        self._waiting_count = 0
        self._in_flight = 0
        self._room = True
        self._retired = False
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        """Say whether new requests may be given to this connection."""
        return self.alive and not self._retired

    def submit(self, batch: Batch) -> None:
        """Queue a batch; raise LinkError if too much is waiting already."""
        if not self.usable:
            raise LinkError("the connection was lost", sent=False, code=UNAVAILABLE)
        if self._waiting_count + batch.count > self._limits.pending_max:
            raise LinkError(
                f"more than {self._limits.pending_max} requests wait for {self.address}",
                sent=False,
                code=BUSY,
            )
        self._waiting.append(batch)
        self._waiting_count += batch.count
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        if self._timer is None or batch.deadline < self._timer.when():
            self._set_timer(batch.deadline)

    def forget(self, batch: Batch) -> None:
        """Give up a batch whose caller went away."""
        if batch in self._waiting:
            self._waiting.remove(batch)
            self._waiting_count -= batch.count
        elif not batch.given_up and batch in self._sent:
            self._give_up(batch)
            self._on_change(self)

    def retire(self, why: str) -> None:
        """Take no new requests; end when the last one that somebody waits for is done."""
        self._retired = True
        self.reason = self.reason or why
        self._return_waiting(why)
        self._end_if_idle()

    def close(self, why: str) -> None:
        """End the connection now."""
        self.reason = self.reason or why
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # Not an isinstance check: the transports of uvloop are of no class of asyncio.
        self._transport = cast("asyncio.Transport", transport)
        self.alive = True

    def data_received(self, data: bytes) -> None:
        """Give the replies in `data` to the batches at the head of the queue."""
        trouble = ""
        try:
            replies = self._reader.feed(data)
        except ProtocolError as error:
            replies, trouble = error.replies, f"{self.address}: {error.message}"
        sent = self._sent
        for reply in replies:
            if not sent:
                self._fail(f"{self.address} answered without being asked", BAD_REPLY)
                return
            batch = sent[0]
            batch.replies.append(reply)
            self._in_flight -= 1
            if batch.given_up:
                self.lost -= 1
            if len(batch.replies) == batch.count:
                sent.popleft()
                if not batch.done.done():
                    batch.done.set_result(None)
        if trouble:
            self._fail(trouble, BAD_REPLY)
            return
        if replies and not self.answered:
            self.answered = True
            self._on_change(self)
        if self._waiting:
            self._flush()
        if self._retired:
            self._end_if_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail every batch: those that were sent may have happened."""
        self.alive = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        why = self.reason or lost_reason(self.address, exc)
        self.reason = why
        for batch in self._sent:
            _end(batch, LinkError(why, sent=True, code=UNAVAILABLE))
        self._sent.clear()
        self._in_flight = self.lost = 0
        self._return_waiting(why)
        if not self.closed.done():
            self.closed.set_result(None)
        self._on_change(self)

    def pause_writing(self) -> None:
        """Keep what comes: the peer reads too slowly."""
        self._room = False

    def resume_writing(self) -> None:
        """Send what was kept."""
        self._room = True
        self._flush()

    # The queue.

    def _flush(self) -> None:
        """Write what waits, as far as there is room in the pipeline and in the transport."""
        self._flushing = False
        transport = self._transport
        # Writing to a closing transport is at best ignored: what waits was not sent.
        while self._waiting and self._room and transport is not None:
            if transport.is_closing():
                return
            chunks = self._next_chunks()
            if not chunks:
                return
            transport.write(b"".join(chunks))

    def _next_chunks(self) -> list[bytes]:
        waiting, chunks, size = self._waiting, [], 0
        while waiting and size < WRITE_BYTES:
            batch = waiting[0]
            if self._in_flight and self._in_flight + batch.count > self._limits.pipeline_max:
                break
            waiting.popleft()
            self._waiting_count -= batch.count
            self._in_flight += batch.count
            self._sent.append(batch)
            chunks.append(batch.data)
            size += len(batch.data)
        return chunks

    def _return_waiting(self, why: str) -> None:
        returned, self._waiting = self._waiting, deque()
        self._waiting_count = 0
        for batch in returned:
            _end(batch, LinkError(why, sent=False, code=UNAVAILABLE))

    # Time.

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._expire)

    def _expire(self) -> None:
        """Give up what is due. One timer for all: it is set again for the earliest that is left."""
        self._timer = None
        now = self._loop.time()
        due = [b for b in self._waiting if b.deadline <= now]
        if due:
            self._waiting = deque(b for b in self._waiting if b.deadline > now)
        for batch in due:
            self._waiting_count -= batch.count
            why = f"it could not be sent to {self.address} within {batch.timeout_s:g}s"
            _end(batch, LinkError(why, sent=False, code=TIMEOUT))
        gave_up = False
        for batch in self._sent:
            if batch.deadline <= now and not batch.given_up:
                self._give_up(batch)
                why = f"{self.address} did not answer within {batch.timeout_s:g}s"
                _end(batch, LinkError(why, sent=True, code=TIMEOUT))
                gave_up = True
        left = [b.deadline for b in self._waiting]
        left += [b.deadline for b in self._sent if not b.given_up]
        if left:
            self._set_timer(min(left))
        if gave_up:
            self._on_change(self)

    def _give_up(self, batch: Batch) -> None:
        batch.given_up = True
        self.lost += batch.count - len(batch.replies)

    # The end.

    def _fail(self, why: str, code: str) -> None:
        """End because of what the other side said; nothing more of it can be trusted."""
        self.reason = why
        for batch in self._sent:
            _end(batch, LinkError(why, sent=True, code=code))
        self.close(why)

    def _end_if_idle(self) -> None:
        if all(batch.given_up for batch in self._sent):
            self.close(self.reason)


def _end(batch: Batch, error: LinkError) -> None:
    if not batch.done.done():
        batch.done.set_exception(error)
