"""The shim process as the supervisor and the nodes meet it: real processes, sockets and faults."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
import socket
import struct
import sys
import time
from contextlib import asynccontextmanager

import pytest

from kvlab.errors import InfraError, NotRunningError, PortTakenError, UsageError
from kvlab.fault.link import LinkRule
from kvlab.lab.shims import Shims

pytestmark = pytest.mark.live

AB, BA = ("a", "b"), ("b", "a")
PATIENCE_S = 10.0
NOBODY = ("127.0.0.1", 1)


def live(test):
    """Run an async test to its end, or fail it."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 30))

    return run


async def until(condition, what: str):
    """Wait until the condition holds; it may be a function or a coroutine function."""
    end = time.monotonic() + PATIENCE_S
    while True:
        answer = condition()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return answer
        assert time.monotonic() < end, f"waited {PATIENCE_S} s for: {what}"
        await asyncio.sleep(0.005)


class Node:
    """A server that hands every connection it accepts to the test."""

    def __init__(self):
        self.accepted: asyncio.Queue = asyncio.Queue()
        self.writers: list[asyncio.StreamWriter] = []

    async def start(self):
        self.server = await asyncio.start_server(self._on_connect, "127.0.0.1", 0, limit=1 << 24)
        self.address = self.server.sockets[0].getsockname()

    async def _on_connect(self, reader, writer):
        self.writers.append(writer)
        await self.accepted.put((reader, writer))

    def stop(self):
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()


class Stage:
    """Node b behind its shim; this process is node a, so what it dials is the link a -> b."""

    def __init__(self, shims: Shims, node: Node, address):
        self.shims, self.node, self.address = shims, node, address
        self.clients: list[asyncio.StreamWriter] = []

    async def dial(self):
        reader, writer = await asyncio.open_connection(*self.address, limit=1 << 24)
        self.clients.append(writer)
        return reader, writer

    async def connect(self):
        """Give (reader, writer) of the caller and of the node."""
        client = await self.dial()
        return client, await asyncio.wait_for(self.node.accepted.get(), PATIENCE_S)

    async def link(self, ends) -> dict:
        rows = [row for row in await self.shims.snapshot() if (row["from"], row["to"]) == ends]
        return rows[0]


@asynccontextmanager
async def stage(**options):
    shims, node = Shims(**options), Node()
    await node.start()
    await shims.start()
    try:
        await shims.add("a", NOBODY)
        address = await shims.add("b", node.address)
        await shims.set_pid("a", os.getpid())
        made = Stage(shims, node, address)
        yield made
        for writer in made.clients:
            writer.transport.abort()
    finally:
        node.stop()
        await shims.close()


async def nothing_comes(reader, seconds=0.15):
    """Prove silence: no byte, no end, no error within the time."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), seconds)


async def is_reset(reader):
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), PATIENCE_S)


async def dial_is_reset(s: Stage):
    """The reset may come while the connect still runs, or just after."""
    with pytest.raises(ConnectionResetError):  # noqa: PT012 - either of the two may say it
        reader, _ = await s.dial()
        await asyncio.wait_for(reader.read(), PATIENCE_S)


async def send_all(writer, data: bytes, rng: random.Random):
    at = 0
    while at < len(data):
        size = rng.choice([1, 100, 5_000, 300_000])
        writer.write(data[at : at + size])
        await writer.drain()
        at += size
    writer.write_eof()


@live
async def test_ten_megabytes_pass_both_ways_at_once_unchanged():
    rng = random.Random(1)
    there, back = rng.randbytes(10_000_000), rng.randbytes(10_000_000)
    async with stage() as s:
        (reader, writer), (node_reader, node_writer) = await s.connect()
        _, _, got_there, got_back = await asyncio.gather(
            send_all(writer, there, rng),
            send_all(node_writer, back, rng),
            node_reader.read(),
            reader.read(),
        )
        assert got_there == there
        assert got_back == back
        await until(lambda: closed(s), "the connection to be over")
        assert (await s.link(AB))["bytes"] == (await s.link(BA))["bytes"] == 10_000_000


async def closed(s: Stage) -> bool:
    return (await s.link(AB))["connections"] == 0


@live
async def test_delayed_and_throttled_bytes_keep_their_order():
    rng = random.Random(2)
    data = rng.randbytes(300_000)
    async with stage(seed=5) as s:
        await s.shims.set_rule([AB], LinkRule(latency_us=3_000, jitter_us=3_000))
        await s.shims.set_rule([AB], LinkRule(bandwidth_bps=2_000_000))
        (_, writer), (node_reader, _) = await s.connect()
        begin = time.monotonic()
        _, got = await asyncio.gather(send_all(writer, data, rng), node_reader.read())
        assert got == data
        assert time.monotonic() - begin >= 0.149
        assert (await s.link(AB))["delayed"] > 0


@live
async def test_a_half_close_passes_and_the_other_direction_stays_open():
    async with stage() as s:
        (reader, writer), (node_reader, node_writer) = await s.connect()
        writer.write(b"question")
        writer.write_eof()
        assert await node_reader.read() == b"question"
        node_writer.write(b"answer")
        node_writer.close()
        assert await reader.read() == b"answer"
        await until(lambda: closed(s), "the connection to be over")


@live
async def test_a_reset_passes_in_both_directions():
    async with stage() as s:
        for broken in ("node", "caller"):
            (reader, writer), (node_reader, node_writer) = await s.connect()
            writer.write(b"x")
            assert await node_reader.read(1) == b"x"
            reset(node_writer if broken == "node" else writer)
            await is_reset(reader if broken == "node" else node_reader)
        await until(lambda: closed(s), "the connections to be over")


def reset(writer):
    """Close with a TCP reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


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
async def test_a_cut_lets_not_one_byte_through_after_it_returns_and_heals_in_order():
    async with stage() as s:
        (_, writer), (node_reader, _) = await s.connect()
        sent = bytearray()
        stop = asyncio.Event()

        async def keep_sending():
            number = 0
            while not stop.is_set():
                word = b"%07d\n" % number
                sent.extend(word)
                writer.write(word)
                await writer.drain()
                number += 1
                await asyncio.sleep(0.0005)

        sending = asyncio.create_task(keep_sending())
        got = await node_reader.readexactly(80)
        await s.shims.cut([AB], "hold")
        through = (await s.link(AB))["bytes"]
        await until(lambda: held(s, 400), "bytes to be held")
        assert (await s.link(AB))["bytes"] == through
        while len(got) < through:  # what was already at the node's socket
            got += await node_reader.read(through - len(got))
        await nothing_comes(node_reader)
        assert await s.shims.heal() == 1
        stop.set()
        await sending
        got += await asyncio.wait_for(node_reader.readexactly(len(sent) - len(got)), PATIENCE_S)
        assert got == bytes(sent)
        assert (await s.link(AB))["queued_bytes"] == 0


async def held(s: Stage, at_least: int) -> bool:
    return (await s.link(AB))["held_bytes"] >= at_least


@live
async def test_a_cut_one_way_holds_that_way_and_lets_the_other_flow():
    async with stage() as s:
        (reader, writer), (node_reader, node_writer) = await s.connect()
        await s.shims.cut([AB], "hold")
        writer.write(b"held")
        node_writer.write(b"flows")
        assert await reader.readexactly(5) == b"flows"
        await nothing_comes(node_reader)
        assert (await s.link(AB))["rule"] == "cut (hold)"
        assert (await s.link(BA))["rule"] == "clean"
        await s.shims.reset([AB])
        assert await node_reader.readexactly(4) == b"held"


@live
async def test_a_death_behind_a_cut_is_not_noticed_until_it_heals():
    async with stage() as s:
        (reader, _), (_, node_writer) = await s.connect()
        await s.shims.cut([AB, BA], "hold")
        reset(node_writer)
        await nothing_comes(reader)
        await s.shims.heal()
        await is_reset(reader)


@live
async def test_a_cut_that_resets_breaks_old_and_new_connections_of_that_link_only():
    async with stage() as s:
        other = Node()
        await other.start()
        other_address = await s.shims.add("c", other.address)
        (reader, _), (node_reader, _) = await s.connect()
        _, other_writer = await asyncio.open_connection(*other_address)
        other_reader, _ = await asyncio.wait_for(other.accepted.get(), PATIENCE_S)
        await s.shims.cut([AB], "reset")
        await is_reset(reader)
        await is_reset(node_reader)
        assert (await s.link(AB))["resets"] == 1
        await dial_is_reset(s)
        assert (await s.link(AB))["refused"] == 1
        other_writer.write(b"fine")
        assert await other_reader.readexactly(4) == b"fine"
        assert s.node.accepted.empty()
        await s.shims.heal()
        await s.connect()
        other_writer.transport.abort()
        other.stop()


@pytest.mark.parametrize("links", [[AB], [BA]], ids=["there", "back"])
@live
async def test_a_new_connection_across_a_cut_hangs_until_it_heals(links):
    async with stage() as s:
        await s.shims.cut(links, "hold")
        _, writer = await s.dial()
        writer.write(b"hello")
        await until(lambda: hung(s, 1), "the connect to hang")
        assert s.node.accepted.empty()
        await s.shims.heal()
        node_reader, _ = await asyncio.wait_for(s.node.accepted.get(), PATIENCE_S)
        assert await node_reader.readexactly(5) == b"hello"


async def hung(s: Stage, count: int) -> bool:
    return (await s.link(AB))["connects_hung"] == count


@live
async def test_a_hung_connect_that_its_caller_gave_up_never_reaches_the_node():
    async with stage() as s:
        await s.shims.set_rule([AB], LinkRule(connect="hang"))
        _, writer = await s.dial()
        writer.write(b"too late")
        await until(lambda: hung(s, 1), "the connect to hang")
        writer.close()
        await until(lambda: closed(s), "the connection to be over")
        await s.shims.heal()
        _, (node_reader, _) = await s.connect()  # a fresh one: the next that the node sees
        await nothing_comes(node_reader)
        assert s.node.accepted.empty()


@live
async def test_refused_connects_leave_open_connections_alone():
    async with stage() as s:
        (_, writer), (node_reader, _) = await s.connect()
        await s.shims.set_rule([AB], LinkRule(connect="refuse"))
        await dial_is_reset(s)
        writer.write(b"still here")
        assert await node_reader.readexactly(10) == b"still here"


@live
async def test_latency_is_added_each_way_and_combines_with_a_cut():
    async with stage() as s:
        (reader, writer), (node_reader, node_writer) = await s.connect()
        await s.shims.set_rule([AB, BA], LinkRule(latency_us=5_000))
        trips = []
        for _ in range(10):
            begin = time.monotonic()
            writer.write(b"ping")
            await node_reader.readexactly(4)
            node_writer.write(b"pong")
            await reader.readexactly(4)
            trips.append(time.monotonic() - begin)
        assert min(trips) >= 0.0099
        assert min(trips) < 0.03
        await s.shims.cut([AB], "hold")
        assert (await s.link(AB))["rule"] == "cut (hold), latency 5ms"
        assert await s.shims.heal() == 2


@live
async def test_what_waits_is_bounded_and_the_sender_is_held_back():
    limit = 100_000
    async with stage(buffer_bytes=limit) as s:
        (_, writer), (node_reader, _) = await s.connect()
        await s.shims.cut([AB], "hold")
        data = random.Random(3).randbytes(64_000_000)
        writer.write(data)
        await until(lambda: held(s, limit), "the buffer to fill")
        waiting = writer.transport.get_write_buffer_size
        stuck = await until(waiting, "the sender to stall")
        await asyncio.sleep(0.1)
        assert 0 < waiting() <= stuck
        queued = (await s.link(AB))["queued_bytes"]
        assert limit < queued <= limit + 256 * 1024  # one read more than the limit at most
        await s.shims.heal()
        assert await node_reader.readexactly(len(data)) == data


@live
async def test_a_node_that_does_not_read_holds_its_sender_back():
    async with stage() as s:
        (_, writer), (node_reader, node_writer) = await s.connect()
        node_writer.transport.pause_reading()
        data = bytes(64_000_000)
        writer.write(data)
        waiting = writer.transport.get_write_buffer_size

        async def stalled():
            before = waiting()
            await asyncio.sleep(0.1)
            return waiting() == before

        await until(stalled, "the sender to stall")
        assert waiting() > 0
        assert (await s.link(AB))["queued_bytes"] <= 2 * (1 << 20)
        node_writer.transport.resume_reading()
        assert len(await node_reader.readexactly(len(data))) == len(data)


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


CALLER = """
import socket, sys
kept = socket.create_connection((sys.argv[1], int(sys.argv[2])))
for line in sys.stdin:
    kept.sendall(line.encode())
"""


@asynccontextmanager
async def caller(s: Stage):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CALLER, *map(str, s.address), stdin=asyncio.subprocess.PIPE
    )
    try:
        reader, _ = await asyncio.wait_for(s.node.accepted.get(), PATIENCE_S)
        yield process, reader
    finally:
        process.stdin.close()
        await process.wait()


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


def is_running(pid: int) -> bool:
    """Say if the process lives; a zombie that its adoptive parent does not reap is dead."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


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
