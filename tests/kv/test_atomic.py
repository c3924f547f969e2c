"""The level `atomic`: dialogues about two rounds."""

from __future__ import annotations

import pytest
from session_client import solo_world
from world import World

from kvlab.kv.version import EPOCH_US, NUMBER_BITS
from kvlab.ring.slot import slot_of
from kvlab.wire.json_lines import Request

NAMES = ("server1", "server2", "server3")


def held(world: World, name: str, key: bytes = b"k") -> tuple[int, object]:
    state = world.nodes[name].state
    record = state.table.get(slot_of(key) >> state.shift, key)
    return (0, None) if record is None else record[:2]


def put(world: World, name: str, version: int, value: str | None) -> None:
    world.nodes[name].state.put_if_held(b"k", version, value)


def version_at(world: World, ahead_us: int = 0) -> int:
    return (world.now_us + ahead_us - EPOCH_US) << NUMBER_BITS


@pytest.mark.parametrize("world", [solo_world(), World(3)], ids=["alone", "three"])
def test_what_was_written_is_read_and_deleted(world: World) -> None:
    assert world.get("server1", "k", level="atomic") is None
    assert world.delete("server1", "k", level="atomic").code == "NOT_FOUND"
    assert world.set("server1", "k", "v", level="atomic").status == "SUCCESS"
    assert world.get("server1", "k", level="atomic") == "v"
    [reply] = world.ask("server1", Request("DELETE", "k", level="atomic"))
    assert (reply.status, reply.value, reply.error) == ("SUCCESS", "", "")
    assert world.get("server1", "k", level="atomic") is None


def test_a_read_gives_what_it_met_to_a_majority_before_it_tells_it() -> None:
    world = World(3)
    put(world, "server2", version_at(world), "new")
    batch = world.submit("server1", Request("GET", "k", level="atomic"))
    world.collect()
    world.deliver("server1", "server2")
    world.collect()
    world.deliver("server2", "server1")
    world.collect()
    assert batch.pending == 1  # it knows the value, and has told nobody yet

    world.run()

    [reply] = world.replies(batch)
    assert reply.value == "new"
    assert sum(held(world, name)[1] == "new" for name in NAMES) >= 2


def test_a_read_that_cannot_give_it_to_a_majority_tells_nothing() -> None:
    world = World(3)
    put(world, "server2", version_at(world), "new")
    batch = world.submit("server1", Request("GET", "k", level="atomic"))
    world.collect()
    world.deliver("server1", "server2")
    world.collect()
    world.deliver("server2", "server1")
    world.cut |= {("server1", "server2"), ("server1", "server3")}
    world.tick(20)

    [reply] = world.replies(batch)
    assert (reply.code, reply.value) == ("UNAVAILABLE", "")


def test_a_write_has_one_version_above_all_that_was_met() -> None:
    world = World(3)
    ahead = version_at(world, 5_000_000)
    put(world, "server3", ahead, "far ahead")
    put(world, "server2", ahead, "far ahead")

    [reply] = world.ask("server1", Request("SET", "k", "v", level="atomic", meta=True))

    assert {held(world, name) for name in NAMES} == {(int(reply.version), "v")}
    assert int(reply.version) > ahead
    assert world.nodes["server1"].state.counters["reissued_writes"] == 0


def test_nothing_is_written_before_a_majority_was_asked() -> None:
    world = World(3)
    batch = world.submit("server1", Request("SET", "k", "v", level="atomic"))
    assert held(world, "server1") == (0, None)
    world.cut |= {("server1", "server2"), ("server1", "server3")}
    world.tick(20)

    [reply] = world.replies(batch)
    assert reply.code == "UNAVAILABLE"
    assert {held(world, name) for name in NAMES} == {(0, None)}


def test_without_a_majority_nothing_is_done() -> None:
    world = World(3)
    world.set("server1", "k", "v", level="atomic")
    world.disconnect("server1", "server2")
    world.disconnect("server1", "server3")

    for request in (Request("GET", "k"), Request("SET", "k", "w"), Request("DELETE", "k")):
        request.level = "atomic"
        [reply] = world.ask("server1", request)
        assert reply.code == "UNAVAILABLE"
    assert world.get("server2", "k", level="atomic") == "v"


def test_a_pipeline_of_such_operations_ends_in_their_order() -> None:
    world = World(3)
    requests = [Request("SET", f"k{one % 3}", f"v{one}", level="atomic") for one in range(30)]

    assert all(reply.status == "SUCCESS" for reply in world.ask("server2", *requests))

    values = [world.get("server3", f"k{one}", level="atomic") for one in range(3)]
    assert values == ["v27", "v28", "v29"]
