"""Drives load at addresses and measures it: the load generator's front door.

It starts no cluster and judges nothing. All three functions run inside the caller's event loop, so
that faults can be injected meanwhile.

    run_load    a workload for a time or a count
    load_keys   write every key once, before a run
    read_all    read every key, after a run, as the final reads of its history
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec

from kvlab.errors import NotRunningError
from kvlab.lab.load_engine import US_PER_S, ProgressHook
from kvlab.lab.load_fast import FastEngine
from kvlab.lab.load_history import HistoryLog
from kvlab.lab.load_plan import Address, LoadPlan
from kvlab.lab.load_processes import run_processes
from kvlab.lab.load_result import LoadResult, merge_results
from kvlab.lab.load_tracked import TrackedEngine
from kvlab.live.knock import connect
from kvlab.live.security import OPEN, Access
from kvlab.workload.keys import KeySpace
from kvlab.workload.mix import preset
from kvlab.workload.stream import Request, Requests

LOAD_CLIENTS: Final = 8
LOAD_PIPELINE: Final = 32
LOAD_TIME_US: Final = 600_000_000  # a preload that takes longer is given up
READ_TIME_US: Final = 60_000_000  # so is one round of final reads
READ_ATTEMPTS: Final = 3
READ_PAUSE_S: Final = 0.25


class FinalReads(msgspec.Struct):
    """What `read_all` read: None for an absent key; `unread` are keys that nobody could read."""

    values: dict[str, str | None]
    unread: tuple[str, ...]
    result: LoadResult


async def run_load(
    plan: LoadPlan,
    *,
    on_progress: ProgressHook | None = None,
    stop: asyncio.Event | None = None,
    log: HistoryLog | None = None,
    gate: Callable[[], Awaitable[None]] | None = None,
) -> LoadResult:
    """Run a plan to its end, or until `stop` is set; with `log`, record every request.

    `gate` is awaited when all is prepared and nothing is sent yet. Raises UsageError for a plan
    that cannot be, NotRunningError when no address accepts a connection at the start.
    """
    plan.validate()
    await probe(plan)
    if plan.processes > 1:
        return await run_processes(plan, on_progress=on_progress, stop=stop, log=log)
    engine: FastEngine | TrackedEngine
    if log is None and plan.rate is None:
        engine = FastEngine(plan)
        await engine.prepare()
    else:
        engine = TrackedEngine(plan, plan.source(), log=log)
    if gate is not None:
        await gate()
    if isinstance(engine, TrackedEngine):
        engine.start_arrivals()
    result = await engine.run(on_progress, stop)
    note = preset(plan.workload).note if plan.mix is None else ""
    result.notes = (note,) if note else ()
    return result


async def load_keys(
    addresses: Iterable[str],
    count: int,
    value_bytes: int,
    *,
    key_prefix: str = "user",
    level: str | None = None,
    seed: int = 1,
    access: Access = OPEN,
    timeout_us: int = 5_000_000,
    time_us: int = LOAD_TIME_US,
    log: HistoryLog | None = None,
    on_progress: ProgressHook | None = None,
    stop: asyncio.Event | None = None,
) -> LoadResult:
    """Write keys 0 to count-1 of a workload once each; the result says how many failed.

    Raises UsageError, and NotRunningError when no address accepts a connection.
    """
    plan = LoadPlan(
        addresses=tuple(addresses),
        keys=count,
        key_prefix=key_prefix,
        value_bytes=value_bytes,
        value_tag="l",
        clients=LOAD_CLIENTS,
        pipeline=LOAD_PIPELINE,
        time_us=time_us,
        timeout_us=timeout_us,
        level=level,
        seed=seed,
        access=access,
    )
    plan.validate()
    await probe(plan)
    values, space = plan.values(), KeySpace(count, prefix=key_prefix)
    sets = (Request("set", space.name(index), values.next()) for index in range(count))
    engine = TrackedEngine(plan, Requests(sets), log=log, clients="load")
    return await engine.run(on_progress, stop)


async def read_all(
    addresses: Iterable[str],
    keys: Iterable[str],
    level: str | None = None,
    *,
    access: Access = OPEN,
    log: HistoryLog | None = None,
    attempts: int = READ_ATTEMPTS,
    timeout_us: int = 5_000_000,
    time_us: int = READ_TIME_US,
    stop: asyncio.Event | None = None,
) -> FinalReads:
    """Read every key and record the reads as final ones.

    Keys whose read failed are read again, in at most `attempts` rounds; every attempt is in the
    history. Raises NotRunningError when no address accepts a connection.
    """
    plan = LoadPlan(
        addresses=tuple(addresses),
        clients=LOAD_CLIENTS,
        pipeline=LOAD_PIPELINE,
        time_us=time_us,
        timeout_us=timeout_us,
        level=level,
        access=access,
    )
    plan.validate()
    values: dict[str, str | None] = {}
    left = list(dict.fromkeys(keys))
    results: list[LoadResult] = []
    for attempt in range(attempts):
        if attempt:
            await asyncio.sleep(READ_PAUSE_S)
        await probe(plan)
        gets = Requests(Request("get", key) for key in left)
        engine = TrackedEngine(plan, gets, log=log, final=True, clients=f"final{attempt}.")
        results.append(await engine.run(None, stop))
        values.update(engine.reads)
        left = [key for key in left if key not in values]
        if not left or (stop is not None and stop.is_set()):
            break
    return FinalReads(values, tuple(left), merge_results(results))


async def probe(plan: LoadPlan) -> list[Address]:
    """Return the addresses that accept a connection.

    Raises NotRunningError when none does, ClientError when one does not take the password.
    """
    targets = plan.targets()
    timeout_s = plan.connect_timeout_us / US_PER_S
    found = await asyncio.gather(*(_accepts(one, timeout_s, plan.access) for one in targets))
    alive = [target for target, accepted in zip(targets, found, strict=True) if accepted]
    if not alive:
        tried = ", ".join(f"{target.host}:{target.port}" for target in targets)
        raise NotRunningError(
            f"nothing accepts connections at {tried}",
            hint="start a cluster with `kvlab up`, or name a running server with --addr host:port",
        )
    return alive


async def _accepts(target: Address, timeout_s: float, access: Access) -> bool:
    tried = Probe()
    try:
        async with asyncio.timeout(timeout_s):
            await connect(lambda: tried, target.host, target.port, access)
    except (OSError, TimeoutError):
        return False
    tried.transport.close()
    return True


class Probe(asyncio.Protocol):
    """A connection that is made and closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it for the end."""
        self.transport = transport
