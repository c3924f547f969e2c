"""A client of a run against a server that misbehaves: what is noted as failed, and what as unknown."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest

from kvlab.history import Event, Recorder, decode_events
from kvlab.lab.run_client import RunClient
from kvlab.rng import Rng
from kvlab.spec.scenario import OperationSpec
from tests.live.echo_store import EchoStore, serving

MS = 1_000


def closed_port() -> tuple[str, int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()


def perform(stores: dict[str, EchoStore | None], *operations: OperationSpec, ns: str = "eventual"):
    """Do operations on these nodes (None: one that refuses); return the events."""
    blocks: list[bytes] = []
    with ExitStack() as opened:
        addresses = {
            name: ("127.0.0.1", opened.enter_context(serving(store)).port)
            if store is not None
            else closed_port()
            for name, store in stores.items()
        }

        async def run() -> None:
            loop = asyncio.get_running_loop()
            epoch = loop.time()
            recorder = Recorder(blocks.append)

            async def at_once(_t_us: int) -> None:
                await asyncio.sleep(0)

            client = RunClient(
                "c1",
                addresses=addresses,
                recorder=recorder,
                now_us=lambda: round((loop.time() - epoch) * 1e6),
                rng=Rng(1),
                ns=ns,
            )
            await client.run(operations, at_once)
            recorder.flush()

        asyncio.run(run())
    return decode_events(b"".join(blocks))


def one(verb: str, value: str = "", timeout_ms: int = 300, **fields) -> OperationSpec:
    return OperationSpec(
        at_us=0, client="c1", verb=verb, key="k", value=value, timeout_us=timeout_ms * MS, **fields
    )


def told(events: list[Event]) -> list[tuple[str, str, str]]:
    return [(event.type, event.f, event.client) for event in events]


def test_what_was_written_is_read_and_noted_with_the_node() -> None:
    events = perform({"a": EchoStore()}, one("set", "v"), one("get"))

    assert told(events) == [
        ("invoke", "set", "c1"),
        ("ok", "set", "c1"),
        ("invoke", "get", "c1"),
        ("ok", "get", "c1"),
    ]
    assert (events[0].value, events[3].value, events[3].node) == ("v", "v", "a")


def test_a_node_that_refuses_is_passed_over_while_there_is_time() -> None:
    events = perform({"a": None, "b": EchoStore()}, one("set", "v"), one("get"))
    assert [event.type for event in events] == ["invoke", "ok"] * 2
    assert events[3].node == "b"

    alone = perform({"a": None}, one("set", "v", timeout_ms=80))
    assert [(event.type, event.error) for event in alone] == [
        ("invoke", ""),
        ("fail", "UNAVAILABLE"),
    ]


@pytest.mark.parametrize("behaviour", [{"mute": True}, {"close_on_request": True}])
def test_a_write_without_an_answer_may_have_happened_and_a_get_did_not(behaviour) -> None:
    store = EchoStore(**behaviour)
    events = perform({"a": store}, one("set", "v", timeout_ms=60), one("get", timeout_ms=60))

    assert told(events) == [
        ("invoke", "set", "c1"),
        ("info", "set", "c1"),
        ("invoke", "get", "c1.1"),
        ("fail", "get", "c1.1"),
    ]


def test_what_is_to_be_asked_again_is_asked_once_more_under_the_same_id() -> None:
    stores = [EchoStore(mute=True), EchoStore(mute=True)]
    write = one("append", "x", timeout_ms=60, again=True)
    events = perform({"a": stores[0], "b": stores[1]}, write, ns="linear")
    asked = [(request["req_id"], request.get("retry")) for one in stores for request in one.seen]

    assert [event.type for event in events] == ["invoke", "info"]
    assert sorted(asked, key=str) == [("c1-1", None), ("c1-1", True)]
    assert [len(store.seen) for store in stores] == [1, 1]


def test_what_could_not_be_begun_in_its_time_is_noted_and_not_sent() -> None:
    store = EchoStore(delay_s=0.1)
    late = [one("get", timeout_ms=50) for _ in range(3)]
    events = perform({"a": store}, one("set", "v"), *late)

    errors = [event.error for event in events if event.type == "fail"]
    assert errors[-1] == "not sent in time"
    assert len(events) == 8, "each has an invocation and an end"


def test_a_thing_is_added_to_what_was_read_and_every_step_is_noted() -> None:
    events = perform({"a": EchoStore()}, one("add", "i1"), one("add", "i2"), one("get"))

    assert [(event.type, event.f) for event in events] == [
        *[("invoke", "get"), ("ok", "get"), ("invoke", "set"), ("ok", "set")] * 2,
        *[("invoke", "get"), ("ok", "get")],
    ]
    assert events[-1].value == '["i1","i2"]'
    assert len({event.op for event in events if event.type == "invoke"}) == 5
