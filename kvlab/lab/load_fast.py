"""The closed loop at full speed: batches encoded beforehand, replies counted but not decoded.

It records no history and no single operation: see load_tracked.

1. A connection sends a batch of P requests, waits for P replies, and sends the next. Each reply
   counts with the time since its batch was sent, at the moment its bytes arrived.
2. A reply is decoded only when a chunk of bytes is not P successes exactly.
3. The requests are drawn once and repeat after POOL_REQUESTS per process; connections start at
   different places of that pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

from kvlab.history import BAD_REPLY, MISSING
from kvlab.lab.load_codec import ENDING, MISSING_MARK, SUCCESS_MARK, Encoder, Reply, classify
from kvlab.lab.load_engine import REPLY_BYTES_MAX, Engine, Lane, clock
from kvlab.lab.load_plan import Address, LoadPlan
from kvlab.workload.stream import batches

POOL_REQUESTS: Final = 1 << 16
POOL_BYTES: Final = 1 << 26
REQUEST_BYTES: Final = 100  # a request without its value, roughly
POOL_PAUSE: Final = 2_000  # requests drawn before other work of the loop gets its turn

NEVER: Final = 1 << 63
NEWLINE: Final = ord("\n")

_decode = msgspec.json.Decoder(Reply).decode


class FastEngine(Engine):
    """A closed loop without history."""

    def __init__(self, plan: LoadPlan) -> None:
        super().__init__(plan)
        self.pool: list[bytes] = []
        self._lanes_made = 0

    async def prepare(self) -> None:
        """Draw and encode the pool of batches."""
        plan = self.plan
        size = plan.pipeline
        fits = POOL_BYTES // (plan.value_bytes + REQUEST_BYTES)
        wanted = min(POOL_REQUESTS, fits, self.left + size)
        encode = Encoder(level=plan.level).encode
        drawn = 0
        for batch in batches(plan.source(), size):
            self.pool.append(b"".join(map(encode, batch)))
            drawn += size
            if drawn >= wanted:
                break
            if drawn % POOL_PAUSE < size:
                await asyncio.sleep(0)

    def lane(self, address: Address) -> FastLane:
        """Make the protocol of one connection."""
        start = self._lanes_made * len(self.pool) // self.plan.clients
        self._lanes_made += 1
        return FastLane(self, address, start % len(self.pool))


class FastLane(Lane):
    """One connection of the fast closed loop."""

    __slots__ = (
        "_append_ns",
        "_append_weight",
        "_batches",
        "_engine",
        "_needed",
        "_sent_ns",
        "_size",
        "_waiting",
    )

    def __init__(self, engine: FastEngine, address: Address, start: int) -> None:
        super().__init__(address)
        self._engine = engine
        self._batches = _around(engine.pool, start)
        self._size = engine.plan.pipeline
        self._needed = self._size  # requests that must be left for a whole batch to be sent
        self._waiting = 0
        self._sent_ns = 0
        self._append_ns = engine.service.append_ns
        self._append_weight = engine.service.append_weight

    def begin(self) -> None:
        """Send the first batch."""
        self._send(clock())

    def drain(self) -> None:
        """Send nothing new; close as soon as nothing is in flight."""
        self._needed = NEVER
        super().drain()

    def in_flight(self) -> int:
        """Return how many requests wait for a reply."""
        return self._waiting

    def overdue(self, before_ns: int) -> bool:
        """Say whether the batch in flight was sent before a time."""
        return self._waiting > 0 and self._sent_ns < before_ns

    def abandon(self, why: str) -> None:
        """Count the rest of the batch as failed."""
        if self._waiting:
            self._engine.failed(why, self.address.name, self._waiting)
            self._waiting = 0

    def data_received(self, data: bytes) -> None:
        """Count replies; when the batch is complete, send the next."""
        if self.tail:
            data = self.tail + data
            self.tail = b""
        waiting = self._waiting
        if data.count(SUCCESS_MARK) != waiting or data[-1] != NEWLINE:
            self._careful(data)
            return
        now = clock()
        self._append_ns(now - self._sent_ns)
        self._append_weight(waiting)
        self.answered += waiting
        engine = self._engine
        left = engine.left
        if left < self._needed:
            self._send(now)
            return
        # What _send does with a whole batch, without the call: this is the hot path.
        size = self._size
        engine.left = left - size
        self._waiting = size
        self._sent_ns = now
        self.transport.write(next(self._batches))

    def _send(self, now: int) -> None:
        """Send the next batch, or the part of it that is left, or come to the end."""
        engine, size = self._engine, self._size
        self._waiting = 0
        if engine.stopping or self.draining:
            self.drain()
            return
        if not engine.left:
            engine.finish()
            return
        batch = next(self._batches)
        if engine.left < size:
            size = engine.left
            batch = b"".join(batch.splitlines(keepends=True)[:size])
        engine.left -= size
        self._waiting = size
        self._sent_ns = now
        self.transport.write(batch)

    def _careful(self, data: bytes) -> None:
        """Count a chunk with errors, with part of the replies, or with a part of a reply."""
        if self.dead or not self._waiting:
            self.give_up(BAD_REPLY)
            return
        now = clock()
        end = data.rfind(b"\n") + 1
        self.tail = data[end:]
        if len(self.tail) > REPLY_BYTES_MAX:
            self.give_up(BAD_REPLY)
            return
        answered = data.count(SUCCESS_MARK, 0, end)
        lines = data.count(b"\n", 0, end)
        if answered != lines:
            missing = data.count(MISSING_MARK, 0, end)
            if answered + missing == lines:
                self._engine.missing += missing
                answered = lines
            else:
                answered = self._decode(data[:end].splitlines())
        if answered:
            self._append_ns(now - self._sent_ns)
            self._append_weight(answered)
            self.answered += answered
        self._waiting -= min(lines, self._waiting)
        if not self._waiting and not self.dead:
            self._send(now)

    def _decode(self, lines: list[bytes]) -> int:
        """Decode replies one by one; count errors by kind, and return how many were answers."""
        engine, answered = self._engine, 0
        for line in lines:
            try:
                # Whether a write failed for certain matters for histories only, so `f` does not.
                outcome, kind = classify("get", _decode(line))
            except msgspec.DecodeError:
                engine.failed(BAD_REPLY, self.address.name)
                continue
            if outcome == "ok" or kind == MISSING:
                answered += 1
                engine.missing += kind == MISSING
            else:
                engine.failed(kind, self.address.name)
                if kind == ENDING:
                    self.drain()
        return answered


def _around(pool: list[bytes], start: int) -> Iterator[bytes]:
    """Walk round and round a pool, from `start` on."""
    yield from islice(pool, start, None)
    while True:
        yield from pool
