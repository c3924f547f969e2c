"""The load generator against a server in the same event loop."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from kvlab.lab.load import run_load
from kvlab.lab.load_history import HistoryLog
from kvlab.workload.mix import Mix

from .load_server import Server
from .load_tools import balanced, drive, plan, until

pytestmark = pytest.mark.live


@pytest.mark.parametrize("pipeline", [1, 7, 16])
@pytest.mark.parametrize("tracked", [False, True])
def test_a_count_is_sent_and_answered_exactly(pipeline, tracked):
    async def work():
        async with Server() as server:
            log = HistoryLog() if tracked else None
            result = await run_load(plan(server, pipeline=pipeline), log=log)
            assert len(server.requests) == 400
            return result

    result = drive(work())
    assert result.answered == 400
    assert result.missing > 0
    assert not result.errors
    assert balanced(result)


@pytest.mark.parametrize("mode", [{"chunk": 33}, {"spaced": True}, {"chunk": 50, "spaced": True}])
@pytest.mark.parametrize("tracked", [False, True])
def test_replies_in_pieces_or_in_another_style_are_counted_all_the_same(mode, tracked):
    async def work():
        async with Server() as server:
            for name, value in mode.items():
                setattr(server, name, value)
            log = HistoryLog() if tracked else None
            return await run_load(plan(server, pipeline=5), log=log)

    result = drive(work())
    assert (result.answered, result.failed) == (400, 0)
    assert balanced(result)


@pytest.mark.parametrize("tracked", [False, True])
def test_errors_are_counted_by_code_and_enter_no_latency(tracked):
    async def work():
        async with Server() as server:
            server.mode = "error"
            log = HistoryLog() if tracked else None
            return await run_load(plan(server, pipeline=3, count=99), log=log)

    result = drive(work())
    assert result.errors == {"UNAVAILABLE": 99}
    assert result.answered == result.service.n == 0
    assert balanced(result)


def test_connections_are_spread_over_the_nodes():
    async def work():
        async with Server("a") as a, Server("b") as b:
            return await run_load(plan(a, b, count=2000))

    result = drive(work())
    assert {n.connects for n in result.nodes.values()} == {2}
    assert all(n.answered > 400 for n in result.nodes.values())


def test_time_ends_a_run():
    async def work():
        async with Server() as server:
            return await run_load(plan(server, count=None, time_us=200_000))

    result = drive(work())
    assert 190_000 < result.elapsed_us < 2_000_000
    assert result.answered > 0


@pytest.mark.parametrize("tracked", [False, True])
def test_a_stop_ends_a_run_and_loses_no_reply(tracked):
    async def work():
        async with Server() as server:
            stop = asyncio.Event()
            log = HistoryLog() if tracked else None
            run = asyncio.ensure_future(
                run_load(plan(server, count=None, time_us=10**10), stop=stop, log=log)
            )
            await until(lambda: len(server.requests) > 50)
            stop.set()
            result = await run
            assert result.answered == len(server.requests)
            return result

    result = drive(work())
    assert result.interrupted
    assert not result.errors


@pytest.mark.parametrize("tracked", [False, True])
def test_a_broken_connection_leaves_sent_requests_uncertain_and_comes_back(tracked):
    async def work():
        async with Server() as server:
            log = HistoryLog() if tracked else None
            run = asyncio.ensure_future(
                run_load(plan(server, count=4000, pipeline=2, mix=Mix(update=1.0)), log=log)
            )
            await until(lambda: len(server.requests) > 200)
            server.mode = "reset"
            await until(lambda: server.connected > 6)
            server.mode = "ok"
            return await run, log

    result, log = drive(work())
    broken = result.errors.get("reset", 0) + result.errors.get("closed by node", 0)
    assert broken == result.failed > 0
    assert result.issued == 4000
    assert balanced(result)
    if log is not None:
        outcomes = Counter(op.outcome for op in log.history().ops)
        assert outcomes == {"ok": result.answered, "info": broken}


def test_a_request_to_a_dead_node_fails_unsent_and_later_ones_succeed():
    async def work():
        async with Server() as server:
            log = HistoryLog()
            run = asyncio.ensure_future(run_load(plan(server, count=3000), log=log))
            await until(lambda: len(server.requests) > 100)
            await server.die()
            await until(lambda: log.count and _fails(log))
            await server.start()
            return await run, log.history()

    result, history = drive(work())
    assert result.unsent == result.errors["refused"] >= 1
    failed = [op for op in history.ops if op.outcome == "fail" and op.error == "refused"]
    assert len(failed) == result.unsent
    info = [op for op in history.ops if op.outcome == "info"]
    assert len(info) <= 4
    assert result.answered + result.failed == 3000
    last = max(op.start for op in failed)
    assert any(op.start > last and op.outcome == "ok" for op in history.ops)


def _fails(log) -> bool:
    return any(op.outcome == "fail" and op.error == "refused" for op in log.history().ops)


def test_connections_of_a_dead_node_use_another_one():
    async def work():
        async with Server("a") as a, Server("b") as b:
            run = asyncio.ensure_future(run_load(plan(a, b, count=5000)))
            await until(lambda: len(a.requests) > 100)
            await a.die()
            result = await run
            await a.start()
            return result

    result = drive(work())
    assert result.unsent == 0
    assert result.failed <= 2
    assert result.nodes["b"].connects >= 4
    assert result.nodes["b"].answered > 4 * result.nodes["a"].answered


def test_without_failover_they_wait_for_their_own():
    async def work():
        async with Server("a") as a, Server("b") as b:
            run = asyncio.ensure_future(
                run_load(plan(a, b, count=None, time_us=400_000, failover=False))
            )
            await until(lambda: len(a.requests) > 100)
            await a.die()
            result = await run
            await a.start()
            return result

    result = drive(work())
    assert result.nodes["b"].connects == 2
    assert result.errors["refused"] == result.unsent > 0


@pytest.mark.parametrize("tracked", [False, True])
def test_a_silent_node_costs_time_outs_and_the_run_still_ends(tracked):
    async def work():
        async with Server() as server:
            server.mode = "silent"
            log = HistoryLog() if tracked else None
            result = await run_load(plan(server, count=8, timeout_us=100_000), log=log)
            return result, log

    result, log = drive(work())
    assert result.errors == {"timeout": 8}
    if log is not None:
        assert {(op.outcome, op.error) for op in log.history().ops} == {("info", "timeout")}


@pytest.mark.parametrize("tracked", [False, True])
def test_garbage_is_an_error_and_no_hang(tracked):
    async def work():
        async with Server() as server:
            server.mode = "garbage"
            log = HistoryLog() if tracked else None
            return await run_load(plan(server, count=12, time_us=10**7), log=log)

    result = drive(work())
    assert result.errors == {"bad reply": 12}
