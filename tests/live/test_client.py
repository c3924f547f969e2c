from __future__ import annotations

import asyncio

import pytest

from kvlab.errors import DefiniteError, UsageError
from kvlab.wire.json_lines import Reply

from .echo_client import run_fixture, until  # noqa: F401 - fixtures are found by import
from .echo_store import EchoStore

pytestmark = pytest.mark.live


def test_set_get_delete_and_missing_keys(run):
    async def body(client):
        assert await client.get("k") is None
        await client.set("k", "v")
        assert await client.get("k") == "v"
        assert await client.delete("k") is True
        assert await client.delete("k") is False

    run(body, EchoStore())


@pytest.mark.parametrize("text", ["", "ä€😀", 'a"b\\c\nd\0', "<&>", "x" * 300_000])
def test_any_text_survives_in_keys_and_values(run, text):
    async def body(client):
        await client.set(text[:1000], text)
        assert await client.get(text[:1000]) == text

    run(body, EchoStore())


def test_a_server_written_in_go_is_understood(run):
    async def body(client):
        await client.set("k", "<&>")
        assert await client.get("k") == "<&>"
        assert await client.get("nothing") is None
        with pytest.raises(DefiniteError, match="Invalid request type"):
            await client.ask("MAP")

    run(body, EchoStore(go_style=True))


def test_administrative_requests_return_info(run):
    async def body(client):
        assert (await client.ping())["id"] == "echo"
        assert (await client.status())["keys"] == 0
        reply = await client.request("map")
        assert (reply.status, reply.error) == ("ERROR", "Invalid request type")

    run(body, EchoStore())


def test_extras_and_defaults_travel_with_requests(run):
    store = EchoStore()

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
    store = EchoStore(chunk_bytes=7)

    async def body(client):
        await asyncio.gather(*(client.set(f"k{i}", f"v{i}") for i in range(300)))
        values = await asyncio.gather(*(client.get(f"k{i}") for i in range(300)))
        assert values == [f"v{i}" for i in range(300)]
        assert store.connections == 1
        assert [one["key"] for one in store.seen] == [f"k{i}" for i in range(300)] * 2

    run(body, store)


def test_never_more_than_pipeline_max_are_in_flight(run):
    store = EchoStore(mute=True)

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
    store = EchoStore(delay_s=0.001)

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

    run(body, EchoStore(), pipeline_max=16)


def test_a_pipeline_that_breaks_keeps_the_replies_that_came(run):
    store = EchoStore()

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
