from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest
import uvloop

from kvlab.errors import DefiniteError, UncertainError, UsageError
from kvlab.live.client import Client
from kvlab.wire.json_lines import Reply

_SPEC = importlib.util.spec_from_file_location(
    "echo_store", Path(__file__).with_name("echo_store.py")
)
echo_store = importlib.util.module_from_spec(_SPEC)
sys.modules.setdefault("echo_store", echo_store)
_SPEC.loader.exec_module(echo_store)

pytestmark = pytest.mark.live

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine function with a started server; both end cleanly."""

    def go(body, *stores, **options):
        async def main():
            for store in stores:
                await store.start()
            options.setdefault("timeout", 5.0)
            try:
                async with Client([store.address for store in stores], **options) as client:
                    await asyncio.wait_for(body(client), 20)
            finally:
                for store in stores:
                    await store.stop()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return go


def Store(**behaviour):  # noqa: N802 - reads like the class it makes
    return echo_store.EchoStore(**behaviour)


async def until(condition, seconds=5.0):
    """Let the loop turn until `condition()` holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


def test_set_get_delete_and_missing_keys(run):
    async def body(client):
        assert await client.get("k") is None
        await client.set("k", "v")
        assert await client.get("k") == "v"
        assert await client.delete("k") is True
        assert await client.delete("k") is False

    run(body, Store())


@pytest.mark.parametrize("text", ["", "ä€😀", 'a"b\\c\nd\0', "<&>", "x" * 300_000])
def test_any_text_survives_in_keys_and_values(run, text):
    async def body(client):
        await client.set(text[:1000], text)
        assert await client.get(text[:1000]) == text

    run(body, Store())


def test_a_server_written_in_go_is_understood(run):
    async def body(client):
        await client.set("k", "<&>")
        assert await client.get("k") == "<&>"
        assert await client.get("nothing") is None
        with pytest.raises(DefiniteError, match="Invalid request type"):
            await client.ask("MAP")

    run(body, Store(go_style=True))


def test_administrative_requests_return_info(run):
    async def body(client):
        assert (await client.ping())["id"] == "echo"
        assert (await client.status())["keys"] == 0
        reply = await client.request("map")
        assert (reply.status, reply.error) == ("ERROR", "Invalid request type")

    run(body, Store())


def test_extras_and_defaults_travel_with_requests(run):
    store = Store()

    async def body(client):
        await client.set("k", "v", w=2)
        await client.get("k", level="one")
        assert store.seen[0]["w"] == 2
        assert store.seen[0]["level"] == "quorum"
        assert store.seen[1]["level"] == "one"
        with pytest.raises(UsageError):
            await client.get("k", quorum=1)

    run(body, store, level="quorum")


def test_many_calls_share_one_connection_and_each_gets_its_own_reply(run):
    store = Store(chunk_bytes=7)

    async def body(client):
        await asyncio.gather(*(client.set(f"k{i}", f"v{i}") for i in range(300)))
        values = await asyncio.gather(*(client.get(f"k{i}") for i in range(300)))
        assert values == [f"v{i}" for i in range(300)]
        assert store.connections == 1
        assert [one["key"] for one in store.seen] == [f"k{i}" for i in range(300)] * 2

    run(body, store)


def test_never_more_than_pipeline_max_are_in_flight(run):
    store = Store(mute=True)

    async def body(client):
        tasks = [asyncio.ensure_future(client.set(f"k{i}", "v")) for i in range(50)]
        await until(lambda: store.seen)
        # The muted server reads one request at a time, so what was sent is what it will have read
        # when it answers the first: count at each step.
        link = client._link
        assert link._in_flight == 8
        store.behave(mute=False)
        await asyncio.gather(*tasks)
        assert len(store.seen) == 50

    run(body, store, pipeline_max=8)


def test_more_than_pending_max_is_refused_and_the_rest_succeeds(run):
    store = Store(delay_s=0.001)

    async def body(client):
        await client.ping()
        results = await asyncio.gather(
            *(client.set(f"k{i}", "v") for i in range(30)), return_exceptions=True
        )
        refused = [one for one in results if isinstance(one, DefiniteError)]
        assert {one.code for one in refused} == {"BUSY"}
        assert len(store.data) == 30 - len(refused)
        assert 10 <= len(store.data) < 30

    run(body, store, pipeline_max=2, pending_max=10)


def test_a_pipeline_returns_replies_in_order_with_errors_in_their_places(run):
    async def body(client):
        wanted = [("SET", "a", "1"), ("GET", "a"), ("GET", "b"), ("NONSENSE", ""), ("DELETE", "a")]
        answers = await client.pipeline(wanted * 40)
        assert all(isinstance(one, Reply) for one in answers)
        found = [(one.status, one.value, one.error) for one in answers]
        assert (
            found
            == [
                ("SUCCESS", "", ""),
                ("SUCCESS", "1", ""),
                ("ERROR", "", "Key does not exist"),
                ("ERROR", "", "Invalid request type"),
                ("SUCCESS", "", ""),
            ]
            * 40
        )
        assert await client.pipeline([]) == []

    run(body, Store(), pipeline_max=16)


def test_a_pipeline_that_breaks_keeps_the_replies_that_came(run):
    store = Store()

    async def body(client):
        original = store._apply

        def apply(request):
            if request["key"] == "k1":
                store.behave(mute=True)
            return original(request)

        store._apply = apply
        task = asyncio.ensure_future(
            client.pipeline([("SET", f"k{i}", "v") for i in range(4)] + [("GET", "k0")])
        )
        await until(lambda: len(store.seen) == 2)
        store.drop_now()
        answers = await task
        kinds = [type(one).__name__ for one in answers]
        assert kinds == ["Reply", *["UncertainError"] * 3, "DefiniteError"]
        assert len(store.seen) == 2  # nothing was sent twice

    run(body, store)


def test_a_timed_out_request_leaves_its_place_so_that_later_replies_match(run):
    store = Store(mute=True)

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
    store = Store(mute=True)

    async def body(client):
        results = await asyncio.gather(
            *(client.get("k") for _ in range(5)), return_exceptions=True
        )
        assert {type(one) for one in results} == {DefiniteError}
        store.behave(mute=False)
        assert await client.get("k") is None
        assert store.connections == 2

    run(body, store, timeout=0.1, lost_max=4)


def test_a_caller_that_is_cancelled_does_not_disturb_the_order(run):
    store = Store(mute=True)

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
    store = Store(mute=True)

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
    first, second = Store(close_on_request=True), Store()

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
    first, second = Store(close_on_request=True), Store()
    second.data["k"] = "v"

    async def body(client):
        assert await client.get("k") == "v"
        assert await client.get("k") == "v"
        assert first.types() == ["GET"]  # the one that works is kept

    run(body, first, second)


def test_a_read_that_times_out_is_repeated_at_the_next_address(run):
    first, second = Store(mute=True), Store()
    second.data["k"] = "v"

    async def body(client):
        assert await client.get("k") == "v"
        assert first.types() == ["GET"]
        await until(lambda: not first._writers or first.behaviour.mute)
        assert len(client._links) == 1  # the silent connection was closed

    run(body, first, second, timeout=0.15)


def test_a_write_is_sent_to_the_next_address_if_the_first_refuses(run):
    gone, here = Store(), Store()

    async def body(client):
        await client.set("k", "v")
        assert here.data == {"k": "v"}

    async def with_first_gone(client):
        await gone.stop()
        await body(client)
        await gone.start()

    run(with_first_gone, gone, here)


def test_a_connection_closed_while_idle_costs_no_write(run):
    store = Store()

    async def body(client):
        await client.set("a", "1")
        store.drop_now()
        await until(lambda: client._link is None)
        await client.set("b", "2")
        assert store.types() == ["SET", "SET"]

    run(body, store)


def test_no_node_at_all_is_definite_and_says_what_to_do(run):
    store = Store()

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
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n", b"\xff\x00\x01", b"[1]\n"]
)
def test_a_server_that_answers_garbage_is_named_and_a_write_is_uncertain(run, garbage):
    store = Store(garbage=garbage)

    async def body(client):
        with pytest.raises(UncertainError, match="no reply"):
            await client.set("k", "v")
        with pytest.raises(DefiniteError) as caught:
            await client.get("k")
        assert caught.value.code == "BAD_REPLY"
        assert "kvlab node" in caught.value.hint

    run(body, store)


def test_half_a_reply_is_no_reply(run):
    store = Store(cut_reply=True)

    async def body(client):
        with pytest.raises(UncertainError, match="closed the connection"):
            await client.set("k", "v")

    run(body, store)


def test_a_reply_too_many_ends_the_connection(run):
    store = Store()

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
    store = Store(error="it failed", code=code)

    async def body(client):
        with pytest.raises(kind, match="it failed"):
            await client.set("k", "v")
        with pytest.raises(kind, match="it failed"):
            await client.delete("k")

    run(body, store)


def test_a_peer_that_reads_nothing_leaves_unsent_writes_definite(run):
    store = Store(deaf=True)

    async def body(client):
        big = "x" * 4_000_000
        results = await asyncio.gather(
            *(client.set(f"k{i}", big) for i in range(8)), return_exceptions=True
        )
        kinds = [type(one) for one in results]
        # The first fill the buffers of the kernel and the transport, the rest were never written.
        assert kinds[0] is UncertainError
        assert kinds[-1] is UncertainError or results[-1].code == "TIMEOUT"
        late = asyncio.gather(*(client.set("z", "1") for _ in range(3)), return_exceptions=True)
        assert {type(one) for one in await late} <= {DefiniteError, UncertainError}

    run(body, store, timeout=0.3)


def test_a_closed_client_says_so(run):
    store = Store(mute=True)

    async def body(client):
        task = asyncio.ensure_future(client.set("k", "v"))
        await until(lambda: store.seen)
        await client.close()
        with pytest.raises(UncertainError, match="closed"):
            await task
        with pytest.raises(DefiniteError, match="closed"):
            await client.get("k")

    run(body, store)
