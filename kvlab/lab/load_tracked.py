"""The load generator that follows every request: for histories and for open loops.

It is slower than load_fast (some microseconds per request) because it decodes every reply.

1. Open loop: an arrival is sent at its intended time if a connection has a free slot, else it waits
   in a bounded backlog; arrivals that find it full, or wait longer than the time-out, are
   `not_issued`. Response times count from the intended time, service times from the send.
2. A request whose connection broke after the send is `info`; one that was never sent is `fail`.
3. A client of the history has one unit in flight. Its name is not used again after an `info`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET

from kvlab.history import BAD_REPLY, MISSING, Event, EventType, Outcome
from kvlab.lab.load_codec import ENDING, Encoder, Reply, classify
from kvlab.lab.load_engine import NS_PER_US, REPLY_BYTES_MAX, Engine, Lane, clock
from kvlab.lab.load_history import HistoryLog
from kvlab.lab.load_latency import LatencyRecorder
from kvlab.lab.load_plan import Address, LoadPlan
from kvlab.lab.load_result import LoadResult
from kvlab.lab.shim_timer import Alarm
from kvlab.workload.stream import Request, Unit, UnitSource

NOT_SENT: Final = 0  # in place of a send time

_decode_lines = msgspec.json.Decoder(Reply).decode_lines


class Flight:
    """One unit on its way: who does it, when it was meant to start, what is still to come."""

    __slots__ = ("client", "intended_ns", "ok", "remaining", "then")

    def __init__(self, client: str, unit: Unit, intended_ns: int) -> None:
        self.client = client
        self.then = unit.then
        self.remaining = len(unit.first)
        self.intended_ns = intended_ns
        self.ok = True


class Pending:
    """One request on its way."""

    __slots__ = ("client", "flight", "number", "request", "sent_ns")

    def __init__(self, request: Request, flight: Flight, number: int, sent_ns: int) -> None:
        self.request = request
        self.client = flight.client
        self.flight = flight
        self.number = number
        self.sent_ns = sent_ns


class TrackedEngine(Engine):
    """An open or closed loop that can record a history."""

    def __init__(
        self,
        plan: LoadPlan,
        source: UnitSource,
        *,
        log: HistoryLog | None = None,
        final: bool = False,
        clients: str = "c",
    ) -> None:
        super().__init__(plan)
        self.source = source
        self.log = log
        self.final = final
        self.encode = Encoder(level=plan.level, meta=log is not None).encode
        self.arrivals = plan.arrivals()
        self.response = LatencyRecorder() if self.arrivals else None
        self.lateness = LatencyRecorder()
        self.not_issued = 0
        self.reads: dict[str, str | None] = {}
        self._clients = f"{clients}{plan.worker}." if plan.workers > 1 else clients
        self._client_count = 0
        self._ops = 0
        self._backlog: deque[int] = deque()
        self._ready: deque[TrackedLane] = deque()
        self._begin_ns = 0
        self._due_ns = 0
        self._alarm: Alarm | None = None

    def lane(self, address: Address) -> TrackedLane:
        """Make the protocol of one connection."""
        return TrackedLane(self, address)

    def new_client(self) -> str:
        """Return a client name that was never used before."""
        self._client_count += 1
        return f"{self._clients}{self._client_count - 1}"

    def next_op(self) -> int:
        """Return the number of the next request."""
        self._ops += 1
        return self._ops - 1

    def take(self) -> Unit | None:
        """Draw the next unit; None, and the end of the run, when there is none."""
        unit = self.source.next_unit() if self.left > 0 else None
        if unit is None:
            self.finish()
            return None
        self.left -= len(unit.first) + len(unit.then)
        return unit

    def refill(self, lane: TrackedLane) -> None:
        """Give a connection with free slots its next work."""
        if self.arrivals is None:
            while lane.free and not (self.stopping or lane.draining):
                unit = self.take()
                if unit is not None:
                    lane.issue(unit, NOT_SENT)
            return
        while self._backlog and lane.free and not (self.stopping or lane.draining):
            intended_ns = self._backlog.popleft()
            unit = self.take()
            if unit is not None:
                lane.issue(unit, intended_ns)
        if lane.free and not lane.listed:
            lane.listed = True
            self._ready.append(lane)
        if self.left <= 0:
            self.finish()

    def unreachable(self, why: str) -> None:
        """Fail the next request unsent in a closed loop; in an open one, let arrivals wait."""
        if self.arrivals is not None:
            return
        unit = self.take()
        if unit is None:
            return
        for request in unit.first[:1]:
            flight = Flight(self.new_client(), unit, NOT_SENT)
            pending = Pending(request, flight, self.next_op(), NOT_SENT)
            self.record("invoke", pending)
            self.record("fail", pending, error=why)
        self.unsent += 1
        self.failed(why, "")

    def record(
        self, kind: EventType, pending: Pending, *, error: str = "", reply: Reply | None = None
    ) -> None:
        """Write one event, if a history is wanted."""
        log = self.log
        if log is None:
            return
        f, key, value = pending.request
        event = Event(
            t_us=log.now_us(),
            client=pending.client,
            op=pending.number,
            type=kind,
            f=f,  # type: ignore[arg-type]  # a Request has no other names of functions
            key=key,
            value=UNSET if value is None else value,
            error=error,
            final=self.final,
        )
        if kind == "invoke" and pending.flight.intended_ns:
            event.intended_us = max(0, pending.flight.intended_ns - log.epoch_ns) // NS_PER_US
        if reply is not None:
            event.node = reply.node or ""
            event.version = "" if reply.version is None else str(reply.version)
            event.degraded = bool(reply.degraded)
            if f == "get" and kind == "ok":
                event.value = None if error == MISSING else reply.value
                event.error = ""
        log.add(event)

    def tick(self, now_ns: int) -> None:
        """Close silent connections, and give up arrivals that waited longer than the time-out."""
        super().tick(now_ns)
        self.lateness.fold()
        if self.response is not None:
            self.response.fold()
        before_ns = now_ns - self.plan.timeout_us * NS_PER_US
        while self._backlog and self._backlog[0] < before_ns:
            self._backlog.popleft()
            self._miss()

    def finish(self) -> None:
        """Send nothing new; what waits in the backlog stays unsent."""
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
        self.not_issued += max(0, min(len(self._backlog), self.left))
        self._backlog.clear()
        super().finish()

    def result(self) -> LoadResult:
        """Return what was measured, with what only an open loop knows."""
        result = super().result()
        result.not_issued = self.not_issued
        if self.response is not None:
            result.response = self.response.latencies()
            result.lateness = self.lateness.latencies()
        return result

    def start_arrivals(self) -> None:
        """Open loop: set the alarm to the first arrival. Call it inside the running loop."""
        if self.arrivals is None:
            return
        self._alarm = Alarm(asyncio.get_running_loop(), self._arrive)
        self._begin_ns = clock()
        self._due_ns = self._begin_ns + self.arrivals.next_us() * NS_PER_US
        self._alarm.set(self._due_ns // NS_PER_US)

    def _arrive(self) -> None:
        """Send, or put into the backlog, every arrival that is due."""
        assert self.arrivals is not None
        now_ns = clock()
        touched: set[TrackedLane] = set()
        while self._due_ns <= now_ns and self.left > len(self._backlog) and not self.stopping:
            self.lateness.add(now_ns - self._due_ns)
            lane = self._offer(self._due_ns)
            if lane is not None:
                touched.add(lane)
            self._due_ns = self._begin_ns + self.arrivals.next_us() * NS_PER_US
        for lane in touched:
            lane.flush()
        if self.left <= 0:
            self.finish()
        elif self._alarm is not None and self.left > len(self._backlog):
            self._alarm.set(self._due_ns // NS_PER_US)

    def _offer(self, intended_ns: int) -> TrackedLane | None:
        """Start one arrival on the connection that waited longest; return it, or None."""
        while self._ready:
            lane = self._ready.popleft()
            lane.listed = False
            if lane.dead or lane.draining or not lane.free:
                continue
            unit = self.take()
            if unit is None:
                return None
            lane.issue(unit, intended_ns)
            if lane.free:
                lane.listed = True
                self._ready.append(lane)
            return lane
        if len(self._backlog) < self.plan.backlog:
            self._backlog.append(intended_ns)
        else:
            self._miss()
        return None

    def _miss(self) -> None:
        """Count an arrival that is never sent; it uses up the count, so that a run ends."""
        self.not_issued += 1
        self.left -= 1
        if self.left <= 0:
            self.finish()


class TrackedLane(Lane):
    """One connection whose requests are followed one by one."""

    __slots__ = ("_engine", "_out", "_queue", "free", "listed")

    def __init__(self, engine: TrackedEngine, address: Address) -> None:
        super().__init__(address)
        self._engine = engine
        self._out: list[bytes] = []
        self._queue: deque[Pending] = deque()
        self.free: list[str] = []
        self.listed = False

    def begin(self) -> None:
        """Ask for as many units as there are slots."""
        self.free = [self._engine.new_client() for _ in range(self._engine.plan.pipeline)]
        self._engine.refill(self)
        self.flush()

    def in_flight(self) -> int:
        """Return how many requests wait for a reply."""
        return len(self._queue)

    def overdue(self, before_ns: int) -> bool:
        """Say whether the oldest request in flight was sent before a time."""
        return bool(self._queue) and self._queue[0].sent_ns < before_ns

    def issue(self, unit: Unit, intended_ns: int) -> None:
        """Start a unit in a free slot; `flush` sends it."""
        self._put(unit.first, Flight(self.free.pop(), unit, intended_ns))

    def flush(self) -> None:
        """Send what was issued, in one write."""
        if self._out and not self.dead:
            self.transport.write(b"".join(self._out))
        self._out.clear()

    def abandon(self, why: str) -> None:
        """Everything in flight may have happened."""
        self._out.clear()
        while self._queue:
            pending = self._queue.popleft()
            self._engine.record("info", pending, error=why)
            self._engine.failed(why, self.address.name)

    def data_received(self, data: bytes) -> None:
        """Complete the oldest requests, and send the next ones."""
        if self.dead:
            return
        if self.tail:
            data = self.tail + data
        end = data.rfind(b"\n") + 1
        self.tail = data[end:]
        if len(self.tail) > REPLY_BYTES_MAX:
            self.give_up(BAD_REPLY)
            return
        try:
            replies = _decode_lines(data[:end])
        except msgspec.DecodeError:
            self.give_up(BAD_REPLY)
            return
        now_ns = clock()
        for reply in replies:
            if not self._queue:
                self.give_up(BAD_REPLY)
                return
            self._complete(self._queue.popleft(), reply, now_ns)
        self._engine.refill(self)
        self.flush()
        if (self._engine.stopping or self.draining) and not self._queue:
            self.drain()

    def _put(self, requests: Sequence[Request], flight: Flight) -> None:
        engine = self._engine
        for request in requests:
            pending = Pending(request, flight, engine.next_op(), NOT_SENT)
            engine.record("invoke", pending)
            self._out.append(engine.encode(request))
            pending.sent_ns = clock()
            self._queue.append(pending)

    def _complete(self, pending: Pending, reply: Reply, now_ns: int) -> None:
        engine, flight = self._engine, pending.flight
        outcome, kind = classify(pending.request.f, reply)
        engine.record(outcome, pending, error=kind, reply=reply)
        if outcome == "ok" or kind == MISSING:
            self._answered(pending, reply, missing=kind == MISSING, now_ns=now_ns)
        else:
            engine.failed(kind, self.address.name)
            flight.ok = False
            self.draining |= kind == ENDING
        self._land(flight, outcome, now_ns)

    def _answered(self, pending: Pending, reply: Reply, *, missing: bool, now_ns: int) -> None:
        engine = self._engine
        self.answered += 1
        engine.missing += missing
        engine.service.add(now_ns - pending.sent_ns)
        if engine.response is not None:
            engine.response.add(now_ns - (pending.flight.intended_ns or pending.sent_ns))
        if engine.final:
            engine.reads[pending.request.key] = None if missing else reply.value

    def _land(self, flight: Flight, outcome: Outcome, now_ns: int) -> None:
        """Count one request of a unit down; after the last, send what follows or free the slot."""
        engine = self._engine
        if outcome == "info":
            flight.client = engine.new_client()
        flight.remaining -= 1
        if flight.remaining:
            return
        if flight.then and flight.ok and not engine.stopping:
            # What follows is meant to be sent when the first part is answered: now.
            intended_ns = now_ns if flight.intended_ns else NOT_SENT
            follow = Flight(flight.client, Unit(flight.then), intended_ns)
            self._put(flight.then, follow)
        else:
            self.free.append(flight.client)
