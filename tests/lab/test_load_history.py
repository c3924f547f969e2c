"""What the load generator records, checks, shares between processes and refuses."""

from __future__ import annotations

import msgspec
import pytest

from kvlab.check import Verdict, check_lost, check_reads
from kvlab.errors import NotRunningError, UsageError
from kvlab.lab.load import load_keys, read_all, run_load
from kvlab.lab.load_history import HistoryLog
from kvlab.workload.mix import Mix

from .load_server import Server
from .load_tools import balanced, drive, plan

pytestmark = pytest.mark.live


def test_a_client_name_is_not_used_again_after_an_uncertain_end():
    async def work():
        async with Server() as server:
            server.mode = "error"
            server.code = "UNKNOWN"
            log = HistoryLog()
            await run_load(plan(server, count=60, pipeline=3), log=log)
            return log.history()

    history = drive(work())
    assert {op.outcome for op in history.ops} == {"info"}
    assert len({op.client for op in history.ops}) == 60


def test_a_client_has_one_operation_at_a_time():
    async def work():
        async with Server() as server:
            log = HistoryLog()
            await run_load(plan(server, pipeline=4, workload="f"), log=log)
            return log.history()

    last: dict[str, int] = {}
    for op in drive(work()).ops:
        assert op.start > last.get(op.client, -1)
        last[op.client] = op.end


@pytest.mark.parametrize(
    ("text", "code", "f", "outcome"),
    [
        ("disk on fire", None, "set", "info"),
        ("disk on fire", None, "get", "fail"),
        ("too slow", "TIMEOUT", "set", "fail"),
        ("who knows", "UNKNOWN", "set", "info"),
        ("Key does not exist", None, "delete", "fail"),
        ("Key does not exist", None, "get", "ok"),
    ],
)
def test_an_error_tells_whether_the_operation_happened(text, code, f, outcome):
    async def work():
        async with Server() as server:
            server.mode, server.text, server.code = "error", text, code
            log = HistoryLog()
            mix = {"set": Mix(update=1.0), "get": Mix(read=1.0), "delete": Mix(delete=1.0)}[f]
            await run_load(plan(server, count=4, mix=mix), log=log)
            return log.history()

    assert {op.outcome for op in drive(work()).ops} == {outcome}


def test_a_whole_history_of_an_honest_server_is_valid():
    async def work():
        async with Server("a") as a:
            log = HistoryLog()
            mix = Mix(read=0.4, update=0.4, delete=0.2)
            await load_keys([a.address], 20, 40, log=log)
            await run_load(plan(a, pipeline=4, count=2000, mix=mix), log=log)
            finals = await read_all([a.address], log.keys, log=log)
            assert finals.values == {f"user{i}": a.data.get(f"user{i}") for i in range(20)}
            assert not finals.unread
            return log.history()

    history = drive(work())
    assert check_lost(history).verdict is Verdict.VALID
    assert check_reads(history).verdict is Verdict.VALID
    assert {op.node for op in history.ops} == {"a"}


def test_a_write_that_the_server_forgets_is_found():
    async def work():
        async with Server() as server:
            log = HistoryLog()
            await load_keys([server.address], 20, 40, log=log)
            del server.data["user13"]
            await read_all([server.address], log.keys, log=log)
            return log.history()

    check = check_lost(drive(work()))
    assert check.verdict is Verdict.INVALID
    assert check.violations == 1
    assert "key user13" in check.because


def test_final_reads_that_fail_are_reported_unread():
    async def work():
        async with Server() as server:
            server.mode = "error"
            return await read_all([server.address], ["a", "b"], attempts=2)

    finals = drive(work())
    assert finals.unread == ("a", "b")
    assert finals.result.errors == {"UNAVAILABLE": 4}


def test_the_level_and_nothing_else_is_asked_of_the_server():
    async def work():
        async with Server() as server:
            await run_load(plan(server, count=5, level="quorum", mix=Mix(read=1.0)))
            return server.requests

    for request in drive(work()):
        assert request == {"type": "GET", "key": request["key"], "level": "quorum"}


def test_when_nothing_is_reachable_it_says_so_at_once():
    async def work():
        server = Server()
        await server.start()
        await server.die()
        await run_load(plan(server))

    with pytest.raises(NotRunningError, match="nothing accepts connections at"):
        drive(work())


def test_a_history_file_holds_what_was_recorded(tmp_path):
    async def work():
        async with Server() as server:
            with HistoryLog(tmp_path / "h.jsonl") as log:
                result = await run_load(plan(server), log=log)
                assert len(log.history().ops) == result.issued
            return log.count

    count = drive(work())
    assert len((tmp_path / "h.jsonl").read_bytes().splitlines()) == count


@pytest.mark.parametrize("tracked", [False, True])
def test_two_processes_add_up(tracked):
    async def work():
        async with Server() as server:
            log = HistoryLog() if tracked else None
            result = await run_load(plan(server, processes=2, count=600), log=log)
            assert len(server.requests) == 600
            return result, log

    result, log = drive(work())
    assert (result.answered, result.processes) == (600, 2)
    assert balanced(result)
    if log is not None:
        history = log.history()
        assert len(history.ops) == 600
        written = [op.value for op in history.ops if op.f == "set"]
        assert len(set(written)) == len(written) > 0
        assert check_reads(history).verdict is Verdict.VALID


@pytest.mark.parametrize(
    "changes",
    [
        {"addresses": ()},
        {"addresses": ("nowhere",)},
        {"addresses": ("host:99999",)},
        {"clients": 0},
        {"pipeline": 0},
        {"processes": 5},
        {"count": None},
        {"count": 0},
        {"rate": 0.0},
        {"workload": "q"},
        {"distribution": "odd"},
        {"value_bytes": 3},
        {"timeout_us": 0},
    ],
)
def test_a_plan_that_cannot_be_is_refused_before_anything_is_sent(changes):
    wrong = msgspec.structs.replace(plan(), **({"addresses": ("127.0.0.1:1",)} | changes))
    with pytest.raises(UsageError):
        wrong.validate()
