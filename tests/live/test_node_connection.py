"""One node inside the test's own event loop, so that its bounds can be made small."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import pytest

from kvlab.kv import session
from kvlab.kv.peering import NEVER_US
from kvlab.live import clients, server
from kvlab.live.options import NodeOptions
from kvlab.live.server import Server

pytestmark = pytest.mark.live

SECONDS_MAX = 60  # of one scene, on a machine that does much else


@contextlib.asynccontextmanager
async def serving(**options) -> AsyncIterator[Server]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)
    node = Server(NodeOptions("server1", **options), listener)
    await node.start()
    try:
        async with asyncio.timeout(SECONDS_MAX):
            yield node
    finally:
        node.stopping.set()
        await node.run()


async def _connect(node: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = node.address.rsplit(":", 1)
    return await asyncio.open_connection(host, int(port), limit=64 * 1024 * 1024)


async def _ask(node: Server, **request: object) -> dict:
    reader, writer = await _connect(node)
    writer.write(json.dumps(request).encode() + b"\n")
    reply = json.loads(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return reply


async def _until(condition, what: str) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not condition():  # noqa: ASYNC110 - the node has no events for tests
            await asyncio.sleep(0.005)
    assert condition(), what


def test_half_a_document_and_then_silence_ends_with_a_word(monkeypatch):
    monkeypatch.setattr(session, "PARTIAL_US_MAX", 50_000)

    async def scene():
        async with serving() as node:
            reader, writer = await _connect(node)
            writer.write(b'{"type":"SET","key":"k","value":"v"}\n{"type":"GET","ke')
            stored = json.loads(await reader.readline())
            told = json.loads(await reader.readline())
            assert stored["status"] == "SUCCESS"
            assert (told["status"], told["code"]) == ("ERROR", "BAD_REQUEST")
            assert "half a document" in told["error"]
            assert await reader.read() == b""
            writer.close()
            assert node.node.state.counters["partial_timeouts"] == 1

    asyncio.run(scene())


def test_a_document_that_goes_on_arriving_in_time_is_served(monkeypatch):
    monkeypatch.setattr(session, "PARTIAL_US_MAX", 5_000_000)

    async def scene():
        async with serving() as node:
            reader, writer = await _connect(node)
            for byte in b'{"type":"SET","key":"k","value":"v"}\n{"type":"GET","key":"k"}\n':
                writer.write(bytes([byte]))
                await writer.drain()
            replies = [json.loads(await reader.readline()) for _ in range(2)]
            assert [reply["value"] for reply in replies] == ["", "v"]
            [client] = node.clients
            assert client.session.deadline_us == NEVER_US  # nothing is awaited any more
            writer.close()
            assert node.node.state.counters["partial_timeouts"] == 0

    asyncio.run(scene())


def test_a_client_whose_rest_was_not_read_is_not_blamed_for_it(monkeypatch):
    monkeypatch.setattr(session, "PARTIAL_US_MAX", 50_000)

    async def scene():
        async with serving() as node:
            await _ask(node, type="SET", key="big", value="x" * 1_000_000)
            reader, writer = await _connect(node)
            writer.transport.pause_reading()
            writer.write(b'{"type":"GET","key":"big"}\n' * 40 + b'{"type":"GET","ke')
            await _until(lambda: any(c.session.held for c in node.clients), "to be held back")
            writer.write(b'y":"big"}\n')
            [client] = [c for c in node.clients if c.session.held]
            first = client.session.deadline_us
            await _until(lambda: client.session.deadline_us > first, "the time to be up once")
            writer.transport.resume_reading()
            for _ in range(41):
                assert json.loads(await reader.readline())["status"] == "SUCCESS"
            writer.close()
            assert node.node.state.counters["partial_timeouts"] == 0

    asyncio.run(scene())


def test_a_client_too_many_is_turned_away_and_counted(monkeypatch):
    monkeypatch.setattr(server, "CLIENTS_MAX", 2)

    async def scene():
        async with serving() as node:
            two = [await _connect(node) for _ in range(2)]
            await _until(lambda: len(node.clients) == 2, "two clients")
            reader, writer = await _connect(node)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            assert node.node.state.counters["refused_connections"] == 1
            for _, other in two:
                other.close()
            await _until(lambda: not node.clients, "both to be gone")
            assert (await _ask(node, type="PING"))["status"] == "SUCCESS"

    asyncio.run(scene())


def test_a_client_that_vanishes_with_replies_due_harms_nobody():
    async def scene():
        async with serving() as node:
            for _ in range(20):
                _, writer = await _connect(node)
                writer.write(b'{"type":"SET","key":"k","value":"v"}\n' * 200)
                writer.transport.abort()
            assert (await _ask(node, type="GET", key="none"))["code"] == "NOT_FOUND"
            await _until(lambda: not node.clients, "all to be gone")

    asyncio.run(scene())


def test_what_one_reader_is_owed_stays_small_and_comes_in_order():
    async def scene():
        async with serving() as node:
            for number in range(4):
                await _ask(node, type="SET", key=f"k{number}", value=str(number) * 2_000_000)
            reader, writer = await _connect(node)
            writer.transport.pause_reading()
            lines = [b'{"type":"GET","key":"k%d"}\n' % (number % 4) for number in range(40)]
            # Options and wrong requests take another way through the node: all keep their order.
            lines[10] = b'{"type":"GET","key":"k2","req_id":"ten"}\n'
            lines[20] = b'{"type":"FLY","key":"k0"}\n'
            lines[30] = b'{"Type":"GET","Key":"k2"}\n'
            writer.write(b"".join(lines))
            await _until(
                lambda: any(client.session.held for client in node.clients), "to be held back"
            )
            [client] = [one for one in node.clients if one.session.held]
            owed = client.transport.get_write_buffer_size()
            assert owed < 16 * 1024 * 1024
            writer.transport.resume_reading()
            for number in range(40):
                reply = json.loads(await reader.readline())
                if number == 20:
                    assert reply["error"] == "Invalid request type"
                    continue
                value = reply.get("value") or reply.get("Value")
                assert value == str(number % 4) * 2_000_000, number
            assert not client.session.busy
            writer.close()

    asyncio.run(scene())


async def _never_read(node: Server, value_bytes: int) -> asyncio.StreamWriter:
    """Ask for more than a client takes that reads nothing, until the node holds it."""
    await _ask(node, type="SET", key="big", value="x" * value_bytes)
    _, writer = await _connect(node)
    writer.transport.pause_reading()
    writer.write(b'{"type":"GET","key":"big"}\n' * (32_000_000 // value_bytes))
    await _until(lambda: any(one.session.held for one in node.clients), "to be held back")
    return writer


def test_a_client_that_never_reads_is_cut_off_in_time(monkeypatch):
    monkeypatch.setattr(clients, "STALLED_US_MAX", 200_000)

    async def scene():
        async with serving() as node:
            writer = await _never_read(node, 1_000_000)
            await _until(lambda: not node.clients, "it to be cut off")
            assert node.node.state.counters["slow_clients"] == 1
            assert (await _ask(node, type="GET", key="none"))["code"] == "NOT_FOUND"
            writer.transport.abort()

    asyncio.run(scene())


def test_a_client_that_reads_again_in_time_stays(monkeypatch):
    monkeypatch.setattr(clients, "STALLED_US_MAX", 200_000)

    async def scene():
        async with serving() as node:
            writer = await _never_read(node, 1_000_000)
            writer.transport.resume_reading()
            [client] = [one for one in node.clients if one.session.held]
            await _until(lambda: not client.session.held, "all to leave")
            await _until(lambda: client._stalled is None, "nothing to threaten it any more")
            assert client in node.clients
            writer.transport.abort()

    asyncio.run(scene())


def test_where_clients_hold_too_much_the_heaviest_goes(monkeypatch):
    monkeypatch.setattr(server, "CLIENT_BYTES_MAX", 3_000_000)

    async def scene():
        async with serving() as node:
            half = [await _connect(node) for _ in range(3)]
            for number, (_, writer) in enumerate(half, start=1):
                writer.write(b'{"type":"SET","value":"' + b"x" * (600_000 * number))
            await _until(lambda: len(node.clients) == 2, "one to be cut off")
            assert node.node.state.counters["heavy_clients"] == 1
            with contextlib.suppress(ConnectionError):
                assert await half[2][0].read() == b""
            for _, writer in half:
                writer.transport.abort()

    asyncio.run(scene())


def test_of_too_many_strangers_the_oldest_gives_way(monkeypatch):
    monkeypatch.setattr(server, "STRANGERS_MAX", 2)
    auth = b'{"type":"AUTH","value":"word"}\n'

    async def scene():
        async with serving(password="word") as node:
            known = []
            for _ in range(3):
                reader, writer = await _connect(node)
                known.append((reader, writer))
                writer.write(auth)
                assert b"SUCCESS" in await reader.readline()
            strangers = [await _connect(node) for _ in range(3)]
            with contextlib.suppress(ConnectionError):
                assert await strangers[0][0].read() == b""
            for reader, writer in known + strangers[1:]:
                writer.write(b'{"type":"PING"}\n')
                assert b"SUCCESS" in await reader.readline()
            for _, writer in known + strangers:
                writer.transport.abort()

    asyncio.run(scene())
