"""Tombstones go when nothing can bring their keys back, and only then."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import World

from kvlab.kv.handoff import Handoff
from kvlab.storage.journal import Journal, Saved
from kvlab.wire.json_lines import Request
from kvlab.wire.peer import encode_raw
from kvlab.wire.value import Expiring

LONG = 150  # ticks in which what can be purged is
VERSION = 1 << 50  # older than all that the clocks here give


def _tombstones(world: World) -> int:
    return sum(node.state.table.tombstone_count for node in world.nodes.values())


def _deleted(world: World, *keys: str) -> None:
    for key in keys:
        assert world.set("server1", key, "old").status == "SUCCESS"
        assert world.delete("server1", key).status == "SUCCESS"


def test_tombstones_of_a_healthy_cluster_go_after_a_while_and_values_stay():
    world = World(3)
    _deleted(world, "a", "b", "c")
    world.set("server2", "d", "kept")

    world.tick(20)
    assert _tombstones(world) == 9
    world.tick(LONG)

    assert _tombstones(world) == 0
    assert sum(node.state.counters["purged"] for node in world.nodes.values()) == 9
    assert world.get("server3", "d") == "kept"
    assert world.get("server3", "a") is None
    assert world.set("server3", "a", "anew").status == "SUCCESS"
    assert world.get("server1", "a") == "anew"


def test_a_node_alone_purges_too():
    world = World(1, found=False)
    world.nodes["server1"].membership.alone(world.now_us)
    _deleted(world, "a")
    world.tick(LONG)

    assert _tombstones(world) == 0
    world.set("server1", "a", "anew")
    assert world.get("server1", "a") == "anew"


def test_an_expired_value_goes_like_a_tombstone():
    world = World(3)
    for node in world.nodes.values():
        value = Expiring("v", world.now_us + 5_000_000)
        node.state.table.put(node.state.range_of(b"a"), b"a", VERSION, value)
    _deleted(world, "b")
    assert world.get("server1", "a") == "v"

    world.tick(LONG)

    assert world.holders("a") == world.holders("b") == {}


def test_a_member_that_is_away_delays_and_loses_nothing():
    world = World(3)
    world.set("server1", "a", "old")
    world.tick()
    for other in ("server1", "server2"):
        world.disconnect("server3", other)
    world.delete("server1", "a")
    world.tick(LONG)
    assert _tombstones(world) == 2

    for other in ("server1", "server2"):
        world.connect("server3", other)
    world.tick(LONG)

    assert world.holders("a") == {}


def test_a_hint_that_is_not_handed_over_delays(monkeypatch):
    world = World(4)
    _deleted(world, "a")
    holder = next(
        node for node in world.nodes.values() if not node.state.holds(node.state.range_of(b"a"))
    )
    table, index = holder.state.table, holder.state.range_of(b"a")
    with monkeypatch.context() as patched:
        patched.setattr(Handoff, "tick", lambda _handoff: None)
        table.put(index, b"a", VERSION, "old")
        world.tick(LONG)
        assert list(world.holders("a").values()).count(None) == 3

    world.tick(LONG)

    assert world.holders("a") == {}


@pytest.mark.parametrize("control", ["put", "group"])
def test_a_copy_that_comes_after_the_purge_brings_nothing_back(control):
    world = World(3)
    _deleted(world, "a")
    world.tick(LONG)
    node, link = world.nodes["server3"], world.nodes["server1"].state.links["server3"]

    if control == "put":
        link.controls.append(["put", [b"a", VERSION, "old"]])
    else:
        link.groups.append(encode_raw([1, [b"a", VERSION, "old"]]))
    world.run()

    assert world.holders("a") == {}
    assert world.get("server3", "a") is None
    assert node.state.table.purged[node.state.range_of(b"a")] > VERSION


def test_a_write_by_a_clock_that_is_behind_the_purge_is_written_above_it():
    world = World(3)
    _deleted(world, "a")
    world.tick(LONG)
    for node in world.nodes.values():
        node.state.clock.last = 0

    world.now_us -= 60_000_000
    assert world.set("server1", "a", "anew").status == "SUCCESS"

    assert set(world.holders("a").values()) == {"anew"}


def test_who_missed_a_purge_takes_it_over_when_the_range_is_compared(monkeypatch):
    world = World(3)
    late = world.nodes["server3"]
    monkeypatch.setattr(late.purge, "on_purge", lambda *_told: None)
    _deleted(world, "a", "b")
    world.set("server1", "d", "kept")

    world.tick(LONG)

    assert _tombstones(world) == 0
    index = late.state.range_of(b"a")
    assert late.state.table.purged[index] == world.nodes["server1"].state.table.purged[index] > 0
    assert world.holders("d") == dict.fromkeys(world.nodes, "kept")


def test_what_nobody_was_told_of_goes_when_a_purge_is_taken_over(monkeypatch):
    world = World(3)
    late = world.nodes["server3"]
    monkeypatch.setattr(late.purge, "on_purge", lambda *_told: None)
    _deleted(world, "a")
    world.tick(LONG)
    index = late.state.range_of(b"a")
    monkeypatch.undo()
    late.state.table.purged[index] = 0  # as if it had not compared yet

    late.state.table.put(index, b"a", VERSION, "old")
    world.tick(LONG)

    assert world.holders("a") == {}


def test_a_newcomer_takes_the_watermark_over_with_the_range():
    world = World(3)
    _deleted(world, *(f"key{number}" for number in range(40)))
    for number in range(40):
        world.set("server1", f"kept{number}", "v")
    world.tick(LONG)
    assert _tombstones(world) == 0

    world.start("server4")
    world.connect("server4", "server1")
    world.tick(2)
    world.mesh()
    world.settle()

    node, donors = world.nodes["server4"].state, [world.nodes[name] for name in world.nodes][:3]
    taken = [node.table.purged[index] for index in range(16) if node.holds(index)]
    assert max(taken) > 0
    assert taken == [
        max(donor.state.table.purged[index] for donor in donors)
        for index in range(16)
        if node.holds(index)
    ]
    for number in range(40):
        assert world.get("server4", f"kept{number}") == "v"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 7), st.booleans()), max_size=40))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_written_and_purged_a_restart_finds_it_again(steps):
    world = World(1, found=False, range_count=2)
    world.nodes["server1"].membership.alone(world.now_us)
    state = world.nodes["server1"].state
    state.table.journal = journal = Journal()
    state.rebuild()
    saved = Saved(2, state.range_of)
    for ticks, number, is_set in steps:
        if is_set:
            world.set("server1", f"key{number}", "v")
        else:
            world.delete("server1", f"key{number}")
        world.tick(ticks * 20)
        saved.apply(journal.take())

    assert saved.table.purged == state.table.purged
    assert [{key: one[:2] for key, one in each.items()} for each in saved.table.ranges] == [
        {key: one[:2] for key, one in each.items()} for each in state.table.ranges
    ]
    assert (saved.table.keys, saved.table.sizes) == (state.table.keys, state.table.sizes)


def test_who_was_replaced_as_dead_delays_until_it_is_back_or_forgotten():
    world = World(5, dead_after_ticks=30)
    _deleted(world, "a")
    world.kill("server3")
    world.tick(LONG)
    world.settle()
    assert world.nodes["server1"].state.map.missing == ("server3",)
    assert _tombstones(world) == 3

    [reply] = world.ask("server2", Request("LEAVE", "server3"))
    assert reply.status == "SUCCESS"
    world.tick(LONG)

    assert world.nodes["server1"].state.map.missing == ()
    assert _tombstones(world) == 0
