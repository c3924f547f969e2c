"""The open loop: intended times, lateness, the backlog, and what was never sent."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest

from kvlab.history import decode_events
from kvlab.lab.load import run_load
from kvlab.lab.load_history import HistoryLog
from kvlab.lab.load_plan import LoadPlan
from kvlab.lab.load_result import Latencies, LoadResult

from .load_server import Server

pytestmark = pytest.mark.live


def drive(work):
    return asyncio.run(asyncio.wait_for(work, 20))


def plan(server, **changes) -> LoadPlan:
    fields = {"clients": 4, "keys": 20, "count": 200, "rate": 1000.0, "arrival": "constant"}
    return LoadPlan(addresses=(server.address,), **(fields | changes))


def test_no_arrival_is_sent_before_it_is_due_and_all_are_counted():
    async def work():
        async with Server() as server:
            log = HistoryLog()
            result = await run_load(plan(server), log=log)
            log.flush()
            return result, decode_events(b"".join(log._blocks))

    result, events = drive(work())
    assert (result.answered, result.not_issued) == (200, 0)
    assert result.lateness.n == result.response.n == result.service.n == 200
    invoked = [event for event in events if event.type == "invoke"]
    assert all(event.t_us >= event.intended_us for event in invoked)
    due = [event.intended_us for event in invoked]
    # Constant arrivals at 1000/s; times are rounded down to whole microseconds.
    assert all(999 <= later - earlier <= 1001 for earlier, later in pairwise(due))


def test_a_stall_of_the_server_shows_in_response_times_and_not_in_service_times():
    async def work():
        async with Server() as server:
            server.delay_s = 0.05
            return await run_load(plan(server, clients=1, count=60, rate=200.0))

    # One connection serves 20/s at most, and 200/s are due: operation n waits about n * 45 ms.
    result = drive(work())
    assert result.answered == 60
    assert max(result.service.values_us) < 1_000_000
    assert max(result.response.values_us) > 2_000_000
    assert min(result.service.values_us) >= 50_000


def test_arrivals_beyond_the_backlog_are_counted_and_not_sent():
    async def work():
        async with Server() as server:
            server.delay_s = 0.1
            result = await run_load(
                plan(server, clients=1, count=None, time_us=500_000, rate=1000.0, backlog=10)
            )
            return result, len(server.requests)

    result, sent = drive(work())
    assert result.answered == sent < 10
    assert result.not_issued > 100
    assert result.not_issued + sent == result.lateness.n


def test_arrivals_that_wait_longer_than_the_time_out_are_not_sent():
    async def work():
        async with Server() as server:
            server.mode = "silent"
            return await run_load(plan(server, clients=1, count=50, rate=500.0, timeout_us=100_000))

    result = drive(work())
    assert result.answered == 0
    assert result.errors["timeout"] + result.not_issued == 50
    assert result.not_issued > 0


def test_a_generator_that_is_held_up_says_that_it_was_late():
    async def work():
        async with Server() as server:
            run = asyncio.ensure_future(run_load(plan(server)))
            while len(server.requests) < 50:  # noqa: ASYNC110 - the server has no events
                await asyncio.sleep(0.001)
            time.sleep(0.05)  # noqa: ASYNC251 - the point: the loop of the generator is blocked
            return await run

    result = drive(work())
    assert result.generator_late
    assert max(result.lateness.values_us) > 40_000
    assert result.answered == 200


def test_the_intended_time_is_in_the_history():
    async def work():
        async with Server() as server:
            log = HistoryLog()
            await run_load(plan(server, count=20), log=log)
            log.flush()
            return b"".join(log._blocks).splitlines()

    lines = drive(work())
    assert sum(b'"intended_us":' in line for line in lines) == 20


def test_lateness_is_judged_by_the_share_of_late_sends():
    few = Latencies([10, 5000], [999, 1])
    many = Latencies([10, 5000], [90, 10])
    assert not LoadResult(lateness=few).generator_late
    assert LoadResult(lateness=many).generator_late
