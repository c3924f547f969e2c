"""Bugs that seeds of the simulator found, each as the smallest dialogue that shows it."""

from __future__ import annotations

from world import World

from kvlab.kv.version import microseconds
from kvlab.wire.json_lines import Request


def test_a_delete_through_a_slow_clock_is_not_lost_in_silence() -> None:
    # Seed 411: one copy, clocks 200 ms apart; the tombstone was older than the value and was
    # dropped, yet acknowledged.
    world = World(3)
    world.now_us += 200_000
    world.set("server1", "k", "by the fast clock")
    world.now_us -= 200_000

    assert world.delete("server2", "k").status == "SUCCESS"
    assert [world.get(name, "k") for name in world.nodes] == [None, None, None]


def test_a_delete_through_a_slow_clock_counts_where_only_others_hold_the_key() -> None:
    world = World(4, replication=1, r=1, w=1)
    world.now_us += 200_000
    world.set("server1", "k", "by the fast clock")
    world.now_us -= 200_000
    [owner] = world.holders("k")
    stranger = next(name for name in world.nodes if name not in (owner, "server1"))

    assert world.delete(stranger, "k").status == "SUCCESS"
    assert world.get(owner, "k") is None


def test_a_node_that_is_no_member_any_more_answers_what_it_had_begun() -> None:
    # Seed 40: operations of a leaver were refused by a newer map, and there was no route for them.
    world = World(3)
    server3 = world.nodes["server3"]
    batch = world.submit("server3", Request("SET", "k", "v"))
    server3.take_frames()
    for group in list(server3.quorum.open.values()):
        group.nacked = world.nodes["server1"].state.epoch + 1
        server3.quorum._retry.append(group)
    server3.state.routes = []

    server3.quorum.reroute(world.now_us)

    [reply] = world.replies(batch)
    assert reply.code == "UNKNOWN"


def test_a_second_round_takes_no_time_from_the_future() -> None:
    # Seed 176: the second round of a write took its version from the end of its time, so that every
    # later write through another node was older, and lost.
    world = World(3)
    world.cut = {("server1", "server2"), ("server2", "server1")}
    world.now_us += 200_000
    world.set("server1", "k", "by the fast clock")
    world.now_us -= 200_000

    assert world.set("server2", "k", "above it", timeout_ms=60_000).status == "SUCCESS"

    assert world.get("server3", "k") == "above it"
    assert microseconds(world.nodes["server2"].state.clock.last) < world.now_us + 300_000


def test_a_delete_that_was_not_heard_everywhere_is_not_said_to_have_found_nothing() -> None:
    # Whoever was asked may hold a value and delete it: only silence came back.
    world = World(3)
    batch = world.submit("server1", Request("DELETE", "k"))
    world.collect()
    world.deliver("server1", "server2")
    world.collect()
    world.deliver("server2", "server1")
    world.disconnect("server1", "server3")

    [reply] = world.replies(batch)
    assert reply.code == "UNKNOWN"


def test_what_only_a_leaver_holds_is_fetched_before_it_goes() -> None:
    # Seed 3870: two nodes, two copies; the range shrank to the one that stayed, which was never
    # compared with the one that left.
    world = World(3)
    world.cut = {("server1", "server3"), ("server2", "server3")}
    world.set("server1", "k", "v")
    assert "server3" not in world.holders("k")
    for wire in world.wires.values():
        wire.clear()
    world.cut = set()

    for leaver in ("server1", "server2"):
        world.nodes[leaver].membership.ask_leave(leaver)
        world.settle()

    assert world.nodes["server2"].state.left
    assert world.holders("k")["server3"] == "v"
