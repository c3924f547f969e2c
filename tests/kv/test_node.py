from __future__ import annotations

import pytest
from world import World

from kvlab.kv.version import EPOCH_US, NUMBER_BITS
from kvlab.ring.slot import slot_of
from kvlab.wire.json_lines import Request
from kvlab.wire.peer import FrameReader


@pytest.fixture
def world() -> World:
    return World(3)


def test_what_one_node_took_every_node_gives(world: World) -> None:
    assert world.set("server1", "k", "v").status == "SUCCESS"

    assert [world.get(name, "k") for name in world.nodes] == ["v", "v", "v"]
    assert world.holders("k") == {"server1": "v", "server2": "v", "server3": "v"}


def test_a_missing_key_is_said_in_the_words_of_the_contract(world: World) -> None:
    [got] = world.ask("server2", Request("GET", "nothing"))
    deleted = world.delete("server3", "nothing")

    assert (got.status, got.error, got.code) == ("ERROR", "Key does not exist", "NOT_FOUND")
    assert (deleted.status, deleted.error) == ("ERROR", "Key does not exist")
    assert world.holders("nothing") == {}


def test_a_delete_leaves_tombstones_and_a_second_one_finds_nothing(world: World) -> None:
    world.set("server1", "k", "v")

    assert world.delete("server2", "k").status == "SUCCESS"
    assert world.delete("server3", "k").error == "Key does not exist"
    assert world.holders("k") == dict.fromkeys(world.nodes)


def test_a_pipeline_keeps_its_order(world: World) -> None:
    replies = world.ask(
        "server1",
        Request("GET", "k"),
        Request("SET", "k", "1"),
        Request("GET", "k"),
        Request("SET", "k", "2"),
        Request("DELETE", "k"),
        Request("GET", "k"),
        Request("SET", "k", "3"),
        Request("GET", "k"),
    )

    told = [reply.value if reply.status == "SUCCESS" else None for reply in replies]
    assert told == [None, "", "1", "", "", None, "", "3"]


def test_a_pipeline_keeps_its_order_at_a_node_that_holds_nothing() -> None:
    world = World(5, replication=2, r=2, w=2)
    key = "k"
    outside = next(name for name in world.nodes if name not in _owners(world, key))

    replies = world.ask(
        outside,
        Request("SET", key, "1"),
        Request("GET", key),
        Request("DELETE", key),
        Request("GET", key),
        Request("SET", key, "2"),
        Request("GET", key),
    )

    told = [reply.value if reply.status == "SUCCESS" else None for reply in replies]
    assert told == ["", "1", "", None, "", "2"]


def _owners(world: World, key: str) -> tuple[str, ...]:
    [reply] = world.ask("server1", Request("INSPECT", key))
    assert reply.info is not None
    return tuple(reply.info["owners"])


def test_one_write_needs_two_confirmations(world: World) -> None:
    batch = world.submit("server1", Request("SET", "k", "v"))
    world.collect()
    assert batch.pending == 1

    world.deliver("server1", "server2")
    world.collect()
    world.deliver("server2", "server1")

    assert batch.pending == 0


def test_two_nodes_go_on_without_the_third(world: World) -> None:
    world.set("server1", "k", "old")
    world.kill("server2")

    reply = world.set("server1", "k", "new")

    assert (reply.status, reply.degraded) == ("SUCCESS", False)
    assert world.get("server3", "k") == "new"


def test_one_node_alone_answers_and_says_degraded(world: World) -> None:
    world.set("server1", "k", "v")
    world.kill("server2")
    world.kill("server3")

    reply = world.set("server1", "k", "w")
    [got] = world.ask("server1", Request("GET", "k"))

    assert (reply.status, reply.degraded) == ("SUCCESS", True)
    assert (got.value, got.degraded) == ("w", True)


@pytest.mark.parametrize("level", ["quorum", "all"])
def test_an_explicit_level_refuses_rather_than_degrade(world: World, level: str) -> None:
    world.kill("server2")
    world.kill("server3")

    reply = world.set("server1", "k", "v", level=level)

    assert (reply.status, reply.code) == ("ERROR", "UNAVAILABLE")
    assert world.holders("k") == {}


def test_the_default_level_has_a_name(world: World) -> None:
    reply = world.set("server1", "k", "v", level="available", meta=True)
    assert (reply.status, reply.degraded) == ("SUCCESS", False)
    world.kill("server2")
    world.kill("server3")
    reply = world.set("server1", "k", "w", level="available")
    [got] = world.ask("server1", Request("GET", "k", level="available"))

    assert (reply.status, reply.degraded) == ("SUCCESS", True)
    assert (got.value, got.degraded) == ("w", True)


def test_level_all_waits_for_all(world: World) -> None:
    reply = world.set("server1", "k", "v", level="all", meta=True)

    assert (reply.status, reply.acks, reply.node) == ("SUCCESS", 3, "server1")


def test_a_write_that_was_sent_and_not_confirmed_is_unknown(world: World) -> None:
    batch = world.submit("server1", Request("SET", "k", "v", level="all"))
    world.collect()
    world.disconnect("server1", "server2")
    world.disconnect("server1", "server3")
    world.collect()

    [reply] = world.replies(batch)
    assert (reply.status, reply.code) == ("ERROR", "UNKNOWN")


def test_a_default_write_ends_degraded_at_its_deadline(world: World) -> None:
    world.cut = {("server2", "server1"), ("server3", "server1")}
    batch = world.submit("server1", Request("SET", "k", "v"))
    world.run()
    assert batch.pending == 1

    world.tick(11)

    [reply] = world.replies(batch)
    assert (reply.status, reply.degraded) == ("SUCCESS", True)


def test_a_read_repairs_the_replica_that_is_behind(world: World) -> None:
    world.set("server1", "k", "old")
    world.disconnect("server1", "server3")
    world.disconnect("server2", "server3")
    world.set("server1", "k", "new")
    # Reconnected without the catch-up, so that only the read can mend it.
    for name in ("server1", "server2"):
        world.connect(name, "server3")
    for node in world.nodes.values():
        for link in node.state.links.values():
            node.transfers.on_link_down(link)
            link.controls.clear()
    assert world.holders("k")["server3"] == "old"

    assert world.get("server3", "k") == "new"
    assert world.holders("k")["server3"] == "new"


def test_after_a_split_is_healed_all_replicas_agree(world: World) -> None:
    world.set("server1", "a", "1")
    world.disconnect("server1", "server3")
    world.disconnect("server2", "server3")
    world.set("server1", "a", "2")
    world.set("server3", "b", "3")
    world.delete("server1", "a")

    world.connect("server1", "server3")
    world.connect("server2", "server3")
    world.tick(3)

    assert world.holders("a") == dict.fromkeys(world.nodes)
    assert world.holders("b") == dict.fromkeys(world.nodes, "3")


def test_a_node_that_met_nobody_says_that_it_is_starting() -> None:
    world = World(3, found=False)

    [reply] = world.ask("server1", Request("SET", "k", "v"))

    assert reply.code == "UNAVAILABLE"
    assert "1 of 3 founding members" in reply.error


@pytest.mark.parametrize(
    ("request_", "code", "word"),
    [
        (Request("GET"), "BAD_REQUEST", '"key"'),
        (Request("SET", "k"), "BAD_REQUEST", '"value"'),
        (Request("GET", "k", ns="loud"), "WRONG_MODE", "namespace"),
        (Request("GET", "k", level="most"), "BAD_REQUEST", "use one of: available, one, quorum"),
        (Request("GET", "k", level="available", r=2), "BAD_REQUEST", "insist"),
        (Request("GET", "k", timeout_ms=10**6), "BAD_REQUEST", "timeout_ms"),
        (Request("FLY", "k"), "BAD_TYPE", "Invalid request type"),
        (Request("SET", "k", "v", w=7), "UNAVAILABLE", "7 are needed"),
        (Request("LEAVE", "nobody"), "BAD_REQUEST", "not a member"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    world: World, request_: Request, code: str, word: str
) -> None:
    [reply] = world.ask("server1", request_)

    assert (reply.status, reply.code) == ("ERROR", code)
    assert word in reply.error


def test_a_request_id_comes_back(world: World) -> None:
    [reply] = world.ask("server1", Request("SET", "k", "v", req_id="r-1"))

    assert reply.req_id == "r-1"


def test_a_peer_that_is_silent_too_long_is_to_be_dropped(world: World) -> None:
    world.cut = {("server2", "server1")}

    world.tick(20)

    assert world.nodes["server1"].drop_links() == ["server2"]
    assert world.nodes["server3"].drop_links() == []


def test_one_node_alone_is_a_cluster_of_one() -> None:
    world = World(1, found=False)
    world.nodes["server1"].membership.alone(world.now_us)

    assert world.set("server1", "k", "v").status == "SUCCESS"
    assert world.get("server1", "k") == "v"
    assert world.delete("server1", "k").status == "SUCCESS"
    assert world.get("server1", "k") is None


def test_large_values_of_one_turn_travel_in_several_frames(world: World) -> None:
    value = "x" * 6_000_000
    batch = world.submit("server1", *(Request("SET", f"k{n}", value) for n in range(6)))
    world.collect()

    [wire] = [world.wires["server1", "server2"]]
    assert sum(map(len, wire)) > 36_000_000
    assert max(len(body) for data in wire for body in FrameReader().feed(data)) < 30_000_000
    world.run()
    assert [reply.status for reply in world.replies(batch)] == ["SUCCESS"] * 6


def test_a_node_that_is_ending_turns_requests_away_and_ends_what_was_begun() -> None:
    world = World(3)
    server1 = world.nodes["server1"]
    begun = world.submit("server1", Request("SET", "k", "v"))

    server1.state.end_service()

    [late] = world.ask("server1", Request("SET", "k", "late"))
    assert (late.code, late.error) == ("ENDING", "this node is ending; ask another one")
    assert [reply.status for reply in world.replies(begun)] == ["SUCCESS"]
    assert not server1.membership.is_ready
    assert world.set("server2", "k", "w", level="all").status == "SUCCESS", "it is a replica yet"


def test_a_write_that_is_written_again_tells_the_version_under_which_it_stands():
    world = World(3)
    ahead = (world.now_us + 10_000_000 - EPOCH_US) << NUMBER_BITS
    for node in world.nodes.values():
        node.state.put_if_held(b"k", ahead, "far ahead")

    [reply] = world.ask("server1", Request("SET", "k", "v", meta=True))

    assert int(reply.version) > ahead
    assert {
        node.state.table.ranges[index][b"k"][0]
        for node in world.nodes.values()
        for index in [slot_of(b"k") >> node.state.shift]
    } == {int(reply.version)}
