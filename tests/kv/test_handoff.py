from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import World

from kvlab.kv import handoff
from kvlab.kv.handoff import LOOK_TICKS, PATIENCE_TICKS
from kvlab.kv.node import MEETING_TICKS
from kvlab.ring.slot import slot_of
from kvlab.wire.json_lines import Request
from kvlab.wire.peer import FrameError

SIDE = ("server1", "server2")


def _owners(world: World, key: str) -> set[str]:
    state = world.nodes["server1"].state
    assert state.map is not None
    return set(state.map.ranges[slot_of(key.encode()) >> state.shift].replicas)


def _elsewhere(world: World, count: int = 1) -> list[str]:
    """Return keys none of whose replicas is on the small side."""
    keys = (f"k{number}" for number in range(10_000))
    found = [next(keys)]
    while len(found) <= count:
        key = next(keys)
        if not _owners(world, key) & set(SIDE):
            found.append(key)
    return found[1:]


def _cut(world: World) -> None:
    world.tick()  # they have met
    for here in SIDE:
        for there in sorted(set(world.nodes) - set(SIDE)):
            world.disconnect(here, there)


def _heal(world: World, sides: tuple[str, ...] = SIDE) -> None:
    for here in sides:
        for there in sorted(set(world.nodes) - set(SIDE)):
            world.connect(here, there)
    world.run()


def _held(world: World) -> dict[str, int]:
    counts = {name: node.transfers.handoff.record_count for name, node in world.nodes.items()}
    return {name: count for name, count in counts.items() if count}


def test_a_side_without_any_replica_takes_writes_and_gives_them_back() -> None:
    world = World(5)
    [key] = _elsewhere(world)
    _cut(world)

    said = world.set("server1", key, "v")

    assert (said.status, said.degraded) == ("SUCCESS", True)
    assert world.get("server2", key) == "v"
    assert _held(world) == {"server1": 1, "server2": 1}
    _heal(world)
    world.tick(LOOK_TICKS)
    assert _held(world) == {}
    assert {name for name, value in world.holders(key).items() if value == "v"} == _owners(
        world, key
    )


def test_who_stands_in_cannot_say_that_there_is_no_such_key() -> None:
    world = World(5)
    [key] = _elsewhere(world)
    assert world.set("server3", key, "v").status == "SUCCESS"
    _cut(world)

    [read] = world.ask("server1", Request("GET", key))
    [deleted] = world.ask("server1", Request("DELETE", key))

    assert (read.code, read.degraded) == ("UNAVAILABLE", False)
    assert (deleted.code, deleted.degraded) == ("UNAVAILABLE", False)
    assert world.get("server3", key) == "v"


@pytest.mark.parametrize("level", ["one", "quorum", "all", "atomic"])
def test_explicit_levels_count_no_one_who_stands_in(level: str) -> None:
    world = World(5)
    [key] = _elsewhere(world)
    _cut(world)

    [said] = world.ask("server1", Request("SET", key, "v", level=level))

    assert said.code == "UNAVAILABLE"
    assert not _held(world)


def test_a_timeout_alone_makes_no_level_explicit() -> None:
    world = World(5)
    [key] = _elsewhere(world)
    _cut(world)

    [said] = world.ask("server1", Request("SET", key, "v", level="available", timeout_ms=500))

    assert (said.status, said.degraded) == ("SUCCESS", True)


def test_a_delete_that_an_owner_may_have_done_is_not_said_to_have_failed() -> None:
    # hinted 400: the one owner that was asked deleted the key and died, those who stood in had nothing.
    world = World(5)
    world.set("server1", "k", "v")
    world.tick()
    owners = sorted(_owners(world, "k"))
    here = next(name for name in world.nodes if name not in owners)
    for owner in owners[1:]:
        world.disconnect(here, owner)

    batch = world.submit(here, Request("DELETE", "k"))
    world.collect()
    assert world.deliver(here, owners[0])
    world.disconnect(here, owners[0])
    world.run()

    [reply] = world.replies(batch)
    assert world.holders("k")[owners[0]] is None
    assert reply.code == "UNKNOWN"


def test_nobody_stands_in_while_a_node_has_yet_to_meet_the_others() -> None:
    # Seed 3054: at the start of a cluster a write went to a stand-in, beside an owner that was there.
    world = World(5)
    [key] = _elsewhere(world)
    for here in SIDE:
        for there in sorted(set(world.nodes) - set(SIDE)):
            world.disconnect(here, there)

    assert world.set("server1", key, "v").code == "UNAVAILABLE"
    world.tick(MEETING_TICKS)
    assert world.set("server1", key, "v").status == "SUCCESS"


def test_a_delete_of_what_was_taken_for_others_stays_deleted() -> None:
    world = World(5)
    [key] = _elsewhere(world)
    assert world.set("server3", key, "old").status == "SUCCESS"
    _cut(world)
    assert world.set("server1", key, "new").status == "SUCCESS"

    said = world.delete("server2", key)

    assert (said.status, said.degraded) == ("SUCCESS", True)
    _heal(world)
    world.tick(LOOK_TICKS)
    assert not _held(world)
    assert all(value is None for value in world.holders(key).values())


def test_nothing_is_forgotten_before_a_majority_of_the_owners_has_it() -> None:
    world = World(5)
    [key] = _elsewhere(world)
    _cut(world)
    world.set("server1", key, "v")
    one = min(_owners(world, key))
    world.connect("server1", one)  # one of three
    world.run()

    world.tick(3 * LOOK_TICKS)

    assert _held(world) == {"server1": 1, "server2": 1}


def test_what_comes_while_a_range_is_handed_over_is_kept() -> None:
    world = World(5)
    keys = _elsewhere(world, 60)
    first = keys[0]
    state = world.nodes["server1"].state
    place = slot_of(first.encode()) >> state.shift
    later = next(key for key in keys[1:] if slot_of(key.encode()) >> state.shift == place)
    _cut(world)
    world.set("server1", first, "v")
    for there in sorted(_owners(world, first)):  # server2 is cut off still, and asks server1
        world.connect("server1", there)
    world.run()
    holder = world.nodes["server1"].transfers.handoff
    for _ in range(LOOK_TICKS):
        holder.tick()  # the offer waits for its frame

    world.nodes["server1"].state.table.put(place, later.encode(), 1 << 60, "late")
    world.run()
    world.tick(LOOK_TICKS)

    assert "server1" not in _held(world)
    assert world.get("server1", later) == "late"


def test_an_owner_that_takes_nothing_is_asked_again_later() -> None:
    world = World(5)
    [key] = _elsewhere(world)
    _cut(world)
    world.set("server1", key, "v")
    for owner in _owners(world, key):
        world.nodes[owner].state.refuse("the disk is full")
    _heal(world)
    world.tick(LOOK_TICKS)
    assert _held(world)

    for owner in _owners(world, key):
        world.nodes[owner].state.refuse("")
    world.tick(PATIENCE_TICKS + LOOK_TICKS)

    assert not _held(world)


def test_who_holds_enough_for_others_takes_no_more_and_loses_nothing() -> None:
    world = World(5, hint_bytes_max=200)
    keys = _elsewhere(world, 40)
    _cut(world)
    said = {}
    for key in keys:
        said[key] = world.set("server1", key, "v" * 20)
        world.tick(LOOK_TICKS)
    kept = [key for key, reply in said.items() if reply.status == "SUCCESS"]
    assert 5 <= len(kept) < 20
    assert {reply.code for reply in said.values()} == {"", "UNKNOWN"}
    for name in SIDE:
        assert world.nodes[name].state.has_hints_enough
        assert world.get(name, kept[0]) == "v" * 20

    _heal(world)
    world.tick(4 * LOOK_TICKS)

    assert not _held(world)
    for key in kept:
        assert world.get("server3", key) == "v" * 20
    assert not world.nodes["server1"].state.has_hints_enough


def test_who_is_no_owner_answers_no_offer() -> None:
    world = World(5)
    [key] = _elsewhere(world)
    index = slot_of(key.encode()) >> world.nodes["server1"].state.shift
    node = world.nodes["server2"]
    link = node.state.links["server1"]
    link.controls.clear()

    node.transfers.handoff.on_offer(link, 1, index, [key.encode(), 7])

    assert not link.controls


@pytest.mark.parametrize("versions", [["text", 1], [b"k", -1], [b"k"], [b"k", "1"]])
def test_a_malformed_offer_ends_the_link(versions: list[object]) -> None:
    world = World(3)
    node = world.nodes["server2"]
    with pytest.raises((FrameError, ValueError)):
        node.transfers.handoff.on_offer(node.state.links["server1"], 1, 0, versions)


def test_a_life_that_was_replaced_gives_what_it_alone_holds() -> None:
    world = World(4, dead_after_ticks=20)
    keys = [f"k{number}" for number in range(40)]
    world.tick()
    others = sorted(set(world.nodes) - {"server1"})
    for other in others:
        world.disconnect("server1", other)
    for key in keys:
        assert world.set("server1", key, "alone").status == "SUCCESS"
    for _ in range(100):
        world.tick()
    assert "server1" not in world.nodes["server2"].state.map.member_ids

    for other in others:
        world.connect("server1", other)
    world.run()
    old = world.nodes["server1"]
    for _ in range(50):
        world.tick()
        if old.refused:
            break

    assert "others took its place" in old.refused
    assert [world.get("server2", key) for key in keys] == ["alone"] * 40


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(1, 30),
    chunk=st.integers(1, 9),
    deleted=st.sets(st.integers(0, 29)),
    sides=st.permutations(SIDE),
)
def test_whatever_was_taken_for_others_reaches_them_in_chunks_of_any_size(
    count: int, chunk: int, deleted: set[int], sides: list[str]
) -> None:
    world = World(5)
    keys = _elsewhere(world, count)
    _cut(world)
    for number, key in enumerate(keys):
        assert world.set(sides[0], key, f"v{number}").status == "SUCCESS"
    gone = {keys[number] for number in deleted if number < count}
    for key in sorted(gone):
        assert world.delete(sides[1], key).status == "SUCCESS"
    before, handoff.CHUNK_RECORDS = handoff.CHUNK_RECORDS, chunk
    try:
        _heal(world, tuple(sides))
        world.tick(4 * LOOK_TICKS)
    finally:
        handoff.CHUNK_RECORDS = before

    assert not _held(world)
    for number, key in enumerate(keys):
        assert world.get("server3", key) == (None if key in gone else f"v{number}")
