"""kvlab bench as a process, against the server of the load tests in this process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from importlib import util
from pathlib import Path

import pytest

from kvlab.check import Verdict, run_checks
from kvlab.history import load

ROOT = Path(__file__).parents[2]
spec = util.spec_from_file_location("load_server", ROOT / "tests" / "lab" / "load_server.py")
assert spec is not None
assert spec.loader is not None
load_server = util.module_from_spec(spec)
spec.loader.exec_module(load_server)
Server = load_server.Server

pytestmark = pytest.mark.live
PROGRAM = "import sys; from kvlab.cli import main; sys.exit(main(sys.argv[1:]))"


async def start(*args: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, "bench", *args),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def drive(work):
    return asyncio.run(asyncio.wait_for(work, 60))


def bench(*args: str, server=None) -> tuple[int, str, str]:
    async def work():
        async with server or Server() as running:
            process = await start("--addr", running.address, *args)
            out, err = await process.communicate()
            return process.returncode, out.decode(), err.decode()

    return drive(work())


def test_bench_prints_rate_latencies_and_the_seed():
    code, out, err = bench("--count", "500", "--keys", "20", "-c", "4", "--seed", "7")
    assert code == 0, err
    assert "workload a (update heavy: 50 % read, 50 % update), zipfian" in out
    assert "service (from send)" in out
    assert "seed: 7" in out
    assert out.splitlines()[-1].startswith("next: ")


def test_json_is_one_document_with_the_numbers():
    code, out, err = bench("--json", "--count", "500", "--keys", "20", "-c", "2", "--workload", "c")
    assert code == 0, err
    document = json.loads(out)
    assert (document["ok"], document["missing"], document["errors"]) == (500, 0, {})
    assert document["service"]["n"] == 500


def test_without_a_preload_keys_are_missing():
    code, out, _ = bench("--json", "--count", "50", "--no-load", "--workload", "c", "-c", "1")
    assert code == 0
    assert json.loads(out)["missing"] == 50


def test_scans_and_open_loops_say_what_they_are():
    args = ("--workload", "e", "--rate", "500/s", "--count", "200", "--keys", "20", "-c", "4")
    code, out, err = bench(*args)
    assert code == 0, err
    assert "note: scans are not in the protocol: each is replaced by GETs of 10" in out
    assert "open loop, poisson arrivals at 500/s" in out
    assert "response (from intended time)" in out


def test_a_recorded_run_can_be_checked(tmp_path):
    path = tmp_path / "h.jsonl"
    code, _, err = bench(
        "--history", str(path), "--count", "300", "--keys", "20", "-c", "4", "--workload", "d"
    )
    assert code == 0, err
    checks = run_checks(load(path.read_bytes()))
    assert [check.verdict for check in checks] == [Verdict.VALID, Verdict.VALID]


def test_nothing_reachable_is_exit_5_with_a_hint():
    async def work():
        server = Server()
        await server.start()
        await server.die()
        process = await start("--addr", server.address, "--count", "5")
        _, err = await process.communicate()
        return process.returncode, err.decode()

    code, err = drive(work())
    assert code == 5
    assert "nothing accepts connections" in err
    assert "hint:" in err


def test_ctrl_c_prints_what_was_measured_and_exits_130():
    async def work():
        async with Server() as server:
            process = await start(
                "--addr", server.address, "--time", "1h", "--keys", "20", "--json"
            )
            while len(server.requests) < 500:  # noqa: ASYNC110 - the server has no events
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
            return process.returncode, out.decode(), err.decode(), len(server.requests)

    code, out, err, sent = drive(work())
    assert code == 130, err
    document = json.loads(out)
    assert document["interrupted"]
    assert document["ok"] + document["missing"] == sent - 20


def test_a_preload_that_fails_is_exit_5_and_names_the_reason():
    server = Server()
    server.mode = "error"
    code, _, err = bench("--count", "5", "--keys", "3", server=server)
    assert code == 5
    assert "only 0 of 3 keys could be loaded (3 UNAVAILABLE)" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--workload", "z"), "no workload is called"),
        (("--rate", "fast"), "--rate 'fast' is not a rate"),
        (("--time", "10"), "--time '10' has no unit"),
        (("--value-size", "3b"), "at least"),
        (("--level", "most"), "--level most"),
        (("--history", "x", "--no-load"), "needs the preload"),
        (("--distribution", "odd"), "no key distribution"),
        (("--history", "/nowhere/x"), "cannot write"),
    ],
)
def test_wrong_usage_is_exit_2_and_says_what_to_write(args, words):
    async def work():
        process = await start("--addr", "127.0.0.1:1", *args)
        _, err = await process.communicate()
        return process.returncode, err.decode()

    code, err = drive(work())
    assert code == 2, err
    assert words in err
