"""Bugs that seeds of the simulator found, each as the smallest dialogue that shows it."""

from __future__ import annotations

from world import World

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
