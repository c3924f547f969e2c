from __future__ import annotations

import asyncio

import pytest

from kvlab.errors import DefiniteError, UncertainError

from .echo_client import run_fixture, until  # noqa: F401 - fixtures are found by import
from .echo_store import EchoStore

pytestmark = pytest.mark.live


def test_a_timed_out_request_leaves_its_place_so_that_later_replies_match(run):
    store = EchoStore(mute=True)

    async def body(client):
        store.data["old"] = "old value"
        with pytest.raises(DefiniteError) as caught:
            await client.get("old")
        assert caught.value.code == "TIMEOUT"
        with pytest.raises(UncertainError):
            await client.set("k", "v1")
        store.behave(mute=False)
        # Both late replies come first; the answer to this one must not be mistaken for them.
        assert await client.get("k") == "v1"
        assert store.connections == 1
        assert client._link.lost == 0

    run(body, store, timeout=0.15)


def test_too_many_lost_requests_bring_a_new_connection(run):
    store = EchoStore(mute=True)

    async def body(client):
        results = await asyncio.gather(*(client.get("k") for _ in range(5)), return_exceptions=True)
        assert {type(one) for one in results} == {DefiniteError}
        store.behave(mute=False)
        assert await client.get("k") is None
        assert store.connections == 2

    run(body, store, timeout=0.1, lost_max=4)


def test_a_caller_that_is_cancelled_does_not_disturb_the_order(run):
    store = EchoStore(mute=True)

    async def body(client):
        store.data.update(a="1", b="2")
        first = asyncio.ensure_future(client.get("a"))
        second = asyncio.ensure_future(client.get("b"))
        await until(lambda: store.seen)
        first.cancel()
        await asyncio.sleep(0)
        store.behave(mute=False)
        assert await second == "2"
        assert await client.get("a") == "1"
        with pytest.raises(asyncio.CancelledError):
            await first

    run(body, store)


def test_a_write_cancelled_before_it_was_sent_is_never_sent(run):
    store = EchoStore(mute=True)

    async def body(client):
        first = asyncio.ensure_future(client.get("a"))
        await until(lambda: store.seen)
        second = asyncio.ensure_future(client.set("k", "v"))
        await until(lambda: client._link._waiting)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        store.behave(mute=False)
        await first
        assert await client.get("k") is None
        assert store.types() == ["GET", "GET"]

    run(body, store, pipeline_max=1)


def test_a_write_whose_connection_dies_is_uncertain_and_not_repeated(run):
    first, second = EchoStore(close_on_request=True), EchoStore()

    async def body(client):
        with pytest.raises(UncertainError) as caught:
            await client.set("k", "v")
        assert caught.value.code == "UNKNOWN"
        assert "closed the connection" in caught.value.message
        assert first.types() == ["SET"]
        assert second.types() == []
        await client.set("k", "v2")
        assert second.data == {"k": "v2"}

    run(body, first, second)


def test_a_read_whose_connection_dies_is_repeated_at_the_next_address(run):
    first, second = EchoStore(close_on_request=True), EchoStore()
    second.data["k"] = "v"

    async def body(client):
        assert await client.get("k") == "v"
        assert await client.get("k") == "v"
        assert first.types() == ["GET"]  # the one that works is kept

    run(body, first, second)


def test_a_read_that_times_out_is_repeated_at_the_next_address(run):
    first, second = EchoStore(mute=True), EchoStore()
    second.data["k"] = "v"

    async def body(client):
        assert await client.get("k") == "v"
        assert first.types() == ["GET"]
        await until(lambda: len(client._links) == 1)  # the silent connection was closed

    run(body, first, second, timeout=0.15)


def test_a_write_is_sent_to_the_next_address_if_the_first_refuses(run):
    gone, here = EchoStore(), EchoStore()

    async def body(client):
        await client.set("k", "v")
        assert here.data == {"k": "v"}

    async def with_first_gone(client):
        await gone.stop()
        await body(client)
        await gone.start()

    run(with_first_gone, gone, here)


def test_a_connection_closed_while_idle_costs_no_write(run):
    store = EchoStore()

    async def body(client):
        await client.set("a", "1")
        store.drop_now()
        await until(lambda: client._link is None)
        await client.set("b", "2")
        assert store.types() == ["SET", "SET"]

    run(body, store)


def test_no_node_at_all_is_definite_and_says_what_to_do(run):
    store = EchoStore()

    async def body(client):
        await store.stop()
        with pytest.raises(DefiniteError) as caught:
            await client.set("k", "v")
        assert "refuses connections" in caught.value.message
        assert "kvlab up" in caught.value.hint
        await store.start(store.port)
        await client.set("k", "v")

    run(body, store)


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n", b"\xff\x00\x01", b"[1]\n"],
)
def test_a_server_that_answers_garbage_is_named_and_a_write_is_uncertain(run, garbage):
    store = EchoStore(garbage=garbage)

    async def body(client):
        with pytest.raises(UncertainError, match="no reply"):
            await client.set("k", "v")
        with pytest.raises(DefiniteError) as caught:
            await client.get("k")
        assert caught.value.code == "BAD_REPLY"
        assert "kvlab node" in caught.value.hint

    run(body, store)


def test_half_a_reply_is_no_reply(run):
    store = EchoStore(cut_reply=True)

    async def body(client):
        with pytest.raises(UncertainError, match="closed the connection"):
            await client.set("k", "v")

    run(body, store)


def test_a_reply_too_many_ends_the_connection(run):
    store = EchoStore()

    async def body(client):
        store.data["k"] = "v"
        assert await client.get("k") == "v"
        store.behave(extra_reply=True)
        await client.get("k")
        await until(lambda: client._link is None)
        store.behave(extra_reply=False)
        assert await client.get("k") == "v"
        assert store.connections == 2

    run(body, store)


@pytest.mark.parametrize(
    ("code", "kind"), [("UNKNOWN", UncertainError), ("TIMEOUT", DefiniteError), ("", DefiniteError)]
)
def test_error_replies_keep_their_meaning(run, code, kind):
    store = EchoStore(error="it failed", code=code)

    async def body(client):
        with pytest.raises(kind, match="it failed"):
            await client.set("k", "v")
        with pytest.raises(kind, match="it failed"):
            await client.delete("k")

    run(body, store)


def test_a_peer_that_reads_nothing_leaves_unsent_writes_definite(run):
    store = EchoStore(deaf=True)

    async def body(client):
        big = "x" * 4_000_000
        results = await asyncio.gather(
            *(client.set(f"k{i}", big) for i in range(8)), return_exceptions=True
        )
        # The first fill the buffers of kernel and transport, the last were never written.
        assert type(results[0]) is UncertainError
        assert type(results[-1]) is DefiniteError
        assert results[-1].code == "TIMEOUT"
        assert "could not be sent" in results[-1].message

    run(body, store, timeout=0.3)


def test_a_closed_client_says_so(run):
    store = EchoStore(mute=True)

    async def body(client):
        task = asyncio.ensure_future(client.set("k", "v"))
        await until(lambda: store.seen)
        await client.close()
        with pytest.raises(UncertainError, match="closed"):
            await task
        with pytest.raises(DefiniteError, match="closed"):
            await client.get("k")

    run(body, store)
