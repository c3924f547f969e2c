"""The shim process as the supervisor meets it: its calls, its callers, its life and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from kvlab.errors import InfraError, NotRunningError, PortTakenError, UsageError
from kvlab.lab.shims import Shims
from tests.lab.shim_stage import (
    AB,
    BA,
    NOBODY,
    PATIENCE_S,
    Node,
    caller,
    dial_is_reset,
    is_reset,
    is_running,
    live,
    nothing_comes,
    stage,
    until,
)

pytestmark = pytest.mark.live


@live
async def test_while_a_node_is_dead_its_address_stays_and_connects_are_reset():
    async with stage() as s:
        s.node.stop()
        await dial_is_reset(s)
        assert (await s.link(AB))["refused"] == 1
        reborn = Node()
        await reborn.start()
        assert await s.shims.add("b", reborn.address) == s.address
        _, writer = await s.dial()
        writer.write(b"again")
        node_reader, _ = await asyncio.wait_for(reborn.accepted.get(), PATIENCE_S)
        assert await node_reader.readexactly(5) == b"again"
        reborn.stop()


@live
async def test_two_hundred_idle_connections_are_carried_and_stay_usable():
    async with stage() as s:
        pairs = [await s.connect() for _ in range(200)]
        assert (await s.link(AB))["connections"] == 200
        for number, ((_, writer), _) in enumerate(pairs):
            writer.write(b"%03d" % number)
        for number, (_, (node_reader, _)) in enumerate(pairs):
            assert await node_reader.readexactly(3) == b"%03d" % number


@live
async def test_more_connections_than_allowed_are_reset_and_harm_nobody():
    async with stage(connections_max=2) as s:
        first, _ = await s.connect(), await s.connect()
        await dial_is_reset(s)
        first[0][1].write(b"ok")
        assert await first[1][0].readexactly(2) == b"ok"


@live
async def test_rules_hold_for_the_process_that_calls_and_for_no_other():
    async with stage() as s:
        await s.shims.add("c", NOBODY)
        await s.shims.set_pid("a", None)
        async with caller(s) as (one, from_one), caller(s) as (two, from_two):
            # They dialled before anybody knew them and are recognised afterwards.
            await s.shims.set_pid("a", one.pid)
            await s.shims.set_pid("c", two.pid)
            await s.shims.cut([("c", "b")], "hold")
            one.stdin.write(b"one\n")
            two.stdin.write(b"two\n")
            assert await from_one.readexactly(4) == b"one\n"
            await nothing_comes(from_two)
            assert (await s.link(("c", "b")))["held_bytes"] == 4
            assert (await s.link(AB))["connections"] == 1
            assert (await s.link(("c", "b")))["connections"] == 1
            await s.shims.heal()
            assert await from_two.readexactly(4) == b"two\n"


@live
async def test_callers_that_are_no_nodes_pass_every_cut_unless_asked_for():
    async with stage() as s:
        # The client is a child of this process, and so would count as node a.
        await s.shims.set_pid("a", None)
        async with caller(s) as (client, from_client):
            await s.shims.cut([AB, BA], "hold")
            client.stdin.write(b"one\n")
            assert await from_client.readexactly(4) == b"one\n"
            await s.shims.cut([("external", "b")], "hold")
            client.stdin.write(b"two\n")
            await nothing_comes(from_client)
            await s.shims.heal()
            assert await from_client.readexactly(4) == b"two\n"


@live
async def test_wishes_that_make_no_sense_are_refused_and_change_nothing():
    async with stage() as s:
        with pytest.raises(UsageError, match=r"server9") as caught:
            await s.shims.cut([AB, ("a", "server9")], "hold")
        assert "a, b" in caught.value.hint
        with pytest.raises(UsageError, match="mode"):
            await s.shims.cut([AB], "melt")
        with pytest.raises(UsageError, match="itself"):
            await s.shims.cut([("a", "a")], "hold")
        with pytest.raises(UsageError, match="external"):
            await s.shims.add("external", NOBODY)
        with pytest.raises(PortTakenError):
            await s.shims.add("d", NOBODY, port=s.node.address[1])
        with pytest.raises(InfraError):
            await s.shims.add("d", NOBODY, host="192.0.2.1")
        assert await s.shims.heal() == 0


@live
async def test_a_removed_node_gives_its_address_back():
    async with stage() as s:
        (reader, _), _ = await s.connect()
        await s.shims.remove("b")
        await is_reset(reader)
        with pytest.raises(ConnectionRefusedError):
            await s.dial()
        assert await s.shims.add("b", s.node.address, port=s.address[1]) == s.address
        await s.connect()


@live
async def test_when_the_shim_dies_every_call_says_so():
    async with stage() as s:
        os.kill(s.shims.pid, signal.SIGKILL)
        await until(lambda: s.shims.pid is None, "the exit to be noticed")
        with pytest.raises(NotRunningError):
            await s.shims.snapshot()


@live
async def test_a_call_that_waits_while_the_shim_dies_fails_at_once():
    async with stage() as s:
        os.kill(s.shims.pid, signal.SIGSTOP)
        asking = asyncio.create_task(s.shims.snapshot())
        await asyncio.sleep(0)
        os.kill(s.shims.pid, signal.SIGKILL)
        with pytest.raises(NotRunningError):
            await asking


@live
async def test_close_ends_the_process_and_may_be_called_twice():
    shims = Shims()
    await shims.start()
    pid = shims.pid
    await shims.close()
    await shims.close()
    assert not is_running(pid)
    with pytest.raises(NotRunningError):
        await shims.heal()


PARENT = """
import asyncio, sys
from kvlab.lab.shims import Shims
async def main():
    shims = Shims()
    await shims.start()
    print(shims.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@live
async def test_the_shim_dies_with_its_parent():
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE
    )
    pid = int(await parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    await parent.wait()
    await until(lambda: not is_running(pid), "the shim to die")
