"""What connections through the shim feel, with and without faults: real sockets and processes."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from kvlab.fault.link import LinkRule
from tests.lab.shim_stage import (
    AB,
    BA,
    PATIENCE_S,
    Node,
    closed,
    dial_is_reset,
    held,
    hung,
    is_reset,
    live,
    nothing_comes,
    reset,
    send_all,
    stage,
    until,
)

pytestmark = pytest.mark.live


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
