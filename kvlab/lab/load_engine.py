"""What every load generator shares: connections that come back, counters, the end of a run.

It does not know requests or replies: load_fast and load_tracked do.

1. One task per connection for its whole life, none per request.
2. After `finish` nothing new is sent; the run ends when every request in flight is answered, has
   timed out, or has lost its connection.
3. A connection that gives up on a reply is closed: replies come in order, so those behind a lost
   one could not be told apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final, cast

from kvlab.errors import ClientError
from kvlab.lab.load_latency import LatencyRecorder
from kvlab.lab.load_plan import Address, LoadPlan
from kvlab.lab.load_result import LoadResult, NodeShare, Progress
from kvlab.live.knock import connect

BACKOFF_FIRST_S: Final = 0.02
BACKOFF_MAX_S: Final = 1.0
AWAY_FIRST_S: Final = 1.0  # how long a connection stays with another node before it tries its own
AWAY_MAX_S: Final = 8.0
CONNECTS_AT_ONCE: Final = 32  # stays below the listen backlog of any server
TICK_MAX_S: Final = 0.05
TICKS_PER_TIMEOUT: Final = 10
PROGRESS_S: Final = 0.25
ERROR_KINDS_MAX: Final = 64
REPLY_BYTES_MAX: Final = 1 << 24
OTHER: Final = "other errors"
TIMEOUT: Final = "timeout"
REFUSED: Final = "refused"
RESET: Final = "reset"
CLOSED: Final = "closed by node"
CONNECT_TIMEOUT: Final = "connect timeout"
UNREACHABLE: Final = "unreachable"
NS_PER_S: Final = 1_000_000_000
NS_PER_US: Final = 1_000
US_PER_S: Final = 1_000_000

ProgressHook = Callable[[Progress], object]
clock = time.monotonic_ns


class Lane(asyncio.Protocol):
    """One connection. Subclasses send in `begin` and count in `data_received` and `abandon`."""

    __slots__ = ("address", "answered", "closed", "dead", "draining", "tail", "transport", "why")

    transport: asyncio.Transport

    def __init__(self, address: Address) -> None:
        self.address = address
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.dead = True
        self.draining = False
        self.tail = b""
        self.answered = 0
        self.why = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to send."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self.dead = False
        self.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count what was in flight, and let the link connect anew."""
        self.dead = True
        self.why = self.why or (RESET if exc else CLOSED)
        self.abandon(self.why)
        if not self.closed.done():
            self.closed.set_result(None)

    def give_up(self, why: str) -> None:
        """Close at once; what is in flight is counted as `why`."""
        if not self.dead:
            self.dead = True
            self.why = why
            self.transport.abort()

    def drain(self) -> None:
        """Send nothing new; close as soon as nothing is in flight."""
        self.draining = True
        if not self.in_flight() and not self.dead:
            self.transport.close()

    def begin(self) -> None:
        """Send the first requests."""
        raise NotImplementedError

    def abandon(self, why: str) -> None:
        """Count every request in flight as failed."""
        raise NotImplementedError

    def in_flight(self) -> int:
        """Return how many requests wait for a reply."""
        raise NotImplementedError

    def overdue(self, before_ns: int) -> bool:
        """Say whether the oldest request in flight was sent before a time."""
        raise NotImplementedError


class Engine:
    """One load run in one process. Subclasses say what a lane is and what they counted."""

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.targets = plan.targets()
        self.left = plan.count if plan.count is not None else 1 << 62
        self.service = LatencyRecorder()
        self.stopping = False
        self.lanes: set[Lane] = set()
        self.missing = 0
        self.unsent = 0
        self.refused_connects = 0
        self.errors: dict[str, int] = {}
        self.nodes = {target.name: NodeShare() for target in self.targets}
        self.connects = asyncio.Semaphore(CONNECTS_AT_ONCE)
        self._stopped = asyncio.Event()
        self._gone_answered = 0
        self._started_ns = self._ended_ns = self._last_ns = self._seen = 0
        self._cpu_s = 0.0

    def lane(self, address: Address) -> Lane:
        """Make the protocol of one connection."""
        raise NotImplementedError

    def tick(self, now_ns: int) -> None:
        """Do what is due every few milliseconds."""
        self.service.fold()
        before_ns = now_ns - self.plan.timeout_us * NS_PER_US
        for lane in [lane for lane in self.lanes if lane.overdue(before_ns)]:
            lane.give_up(TIMEOUT)

    def unreachable(self, why: str) -> None:
        """Count a round of connecting that no node accepted, as one request that was not sent."""
        self.left -= 1
        self.unsent += 1
        self.failed(why, "")
        if self.left <= 0:
            self.finish()

    def failed(self, kind: str, node: str, count: int = 1) -> None:
        """Count requests that failed."""
        if kind not in self.errors and len(self.errors) >= ERROR_KINDS_MAX:
            kind = OTHER
        self.errors[kind] = self.errors.get(kind, 0) + count
        if node:
            self.nodes[node].errors += count

    def answered(self) -> int:
        """Return how many requests were answered so far."""
        return self._gone_answered + sum(lane.answered for lane in self.lanes)

    def attach(self, lane: Lane) -> None:
        """Take in a connection that was made."""
        self.nodes[lane.address.name].connects += 1
        self.lanes.add(lane)
        if self.stopping:
            lane.drain()

    def detach(self, lane: Lane) -> None:
        """Let go of a connection that is closed, and keep its counts."""
        self.lanes.discard(lane)
        self._gone_answered += lane.answered
        self.nodes[lane.address.name].answered += lane.answered

    def finish(self) -> None:
        """Send nothing new; let what is in flight come home."""
        if self.stopping:
            return
        self.stopping = True
        self._ended_ns = clock()
        self._stopped.set()
        for lane in list(self.lanes):
            lane.drain()

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the run."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    async def run(self, on_progress: ProgressHook | None, stop: asyncio.Event | None) -> LoadResult:
        """Run to the end of time, count or source, or until `stop` is set."""
        self._started_ns = self._last_ns = clock()
        self._cpu_s = time.process_time()
        helpers = [asyncio.ensure_future(self._tick_on(on_progress))]
        if stop is not None:
            helpers.append(asyncio.ensure_future(self._finish_on(stop)))
        if self.plan.time_us is not None:
            helpers.append(asyncio.ensure_future(self._finish_after(self.plan.time_us)))
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self.plan.clients):
                    group.create_task(Link(self, number).keep_up())
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        result = self.result()
        result.interrupted = stop is not None and stop.is_set()
        return result

    def result(self) -> LoadResult:
        """Return what was measured; the time of the run ends with its last useful answer."""
        answered = self._look(clock())
        elapsed_ns = max(self._ended_ns, self._last_ns) - self._started_ns
        cpu_s = time.process_time() - self._cpu_s
        return LoadResult(
            elapsed_us=elapsed_ns // NS_PER_US,
            ok=answered - self.missing,
            missing=self.missing,
            unsent=self.unsent,
            errors=dict(self.errors),
            refused_connects=self.refused_connects,
            nodes=self.nodes,
            service=self.service.latencies(),
            generator_busy=cpu_s * NS_PER_S / elapsed_ns if elapsed_ns > 0 else 0.0,
        )

    async def _tick_on(self, on_progress: ProgressHook | None) -> None:
        gap_s = min(TICK_MAX_S, self.plan.timeout_us / US_PER_S / TICKS_PER_TIMEOUT)
        shown_ns = 0
        while True:
            await asyncio.sleep(gap_s)
            now_ns = clock()
            self.tick(now_ns)
            answered = self._look(now_ns)
            if on_progress is not None and now_ns - shown_ns > PROGRESS_S * NS_PER_S:
                shown_ns = now_ns
                elapsed_us = (now_ns - self._started_ns) // NS_PER_US
                on_progress(Progress(elapsed_us, answered, sum(self.errors.values())))

    def _look(self, now_ns: int) -> int:
        """Note when answers were last seen; return how many there are."""
        answered = self.answered()
        if answered != self._seen:
            self._seen, self._last_ns = answered, now_ns
        return answered

    async def _finish_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.finish()

    async def _finish_after(self, time_us: int) -> None:
        await asyncio.sleep(time_us / US_PER_S)
        self.finish()


class Link:
    """Keeps one connection alive: its own node first, another while that one is gone."""

    def __init__(self, engine: Engine, number: int) -> None:
        self._engine = engine
        targets = engine.targets
        self._home = number % len(targets)
        self._start = self._home
        self._tries = len(targets) if engine.plan.failover else 1
        self._away_s = AWAY_FIRST_S

    async def keep_up(self) -> None:
        """Connect, wait for the end of the connection, connect again, until the run is over."""
        engine = self._engine
        backoff_s = BACKOFF_FIRST_S
        while not engine.stopping:
            lane, place, why = await self._connect()
            if lane is None:
                if not engine.stopping:
                    engine.unreachable(why)
            else:
                await self._stay(lane, place)
            if lane is not None and lane.answered:
                backoff_s = BACKOFF_FIRST_S
                continue
            await engine.pause(backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    async def _stay(self, lane: Lane, place: int) -> None:
        """Wait until the connection ends, and decide where to connect next."""
        handle = None
        if place != self._home:
            loop = asyncio.get_running_loop()
            handle = loop.call_later(self._away_s, lane.drain)
            self._away_s = min(self._away_s * 2, AWAY_MAX_S)
        try:
            await lane.closed
        finally:
            if handle is not None:
                handle.cancel()
            self._engine.detach(lane)
        if place == self._home and lane.answered:
            self._away_s = AWAY_FIRST_S
        # A node that accepts but does not answer is avoided for one round; a node that is gone
        # refuses quickly, so it is asked first.
        silent = lane.why == TIMEOUT or not lane.answered
        self._start = place + 1 if silent and self._tries > 1 else self._home

    async def _connect(self) -> tuple[Lane | None, int, str]:
        """Try the nodes in turn, once each; return the lane and its place, or why there is none."""
        engine = self._engine
        why = UNREACHABLE
        for step in range(self._tries):
            place = (self._start + step) % len(engine.targets)
            address = engine.targets[place]
            lane = engine.lane(address)
            try:
                async with engine.connects:
                    if engine.stopping:
                        return None, place, why
                    await _open(lane, address, engine.plan)
            except ConnectionRefusedError:
                why = REFUSED
            except TimeoutError:
                why = CONNECT_TIMEOUT
            except OSError:
                why = UNREACHABLE
            except ClientError as error:
                why = error.code or UNREACHABLE
            else:
                engine.attach(lane)
                return lane, place, ""
            lane.give_up(why)  # in case it was made after all, just when the time was over
            engine.refused_connects += 1
        return None, self._start, why


async def _open(lane: Lane, address: Address, plan: LoadPlan) -> None:
    async with asyncio.timeout(plan.connect_timeout_us / US_PER_S):
        await connect(lambda: lane, address.host, address.port, plan.access)
