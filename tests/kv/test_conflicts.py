"""Writes that did not know of each other are counted."""

from __future__ import annotations

from world import World

from kvlab.wire.json_lines import Request


def _conflicts(world: World) -> int:
    return sum(node.state.counters["conflicts"] for node in world.nodes.values())


def test_writes_one_after_the_other_are_no_conflict():
    world = World(3)
    for name in ("server1", "server2", "server3", "server1"):
        world.set(name, "k", name)

    assert _conflicts(world) == 0


def test_a_write_that_meets_a_newer_one_is_a_conflict_and_written_again():
    world = World(3)
    world.now_us += 200_000
    later = world.submit("server1", Request("SET", "k", "by a clock that is ahead"))
    world.now_us -= 200_000
    world.run()
    world.cut = {("server1", "server2")}
    world.nodes["server2"].state.clock.last = 0

    assert world.set("server2", "k", "after it").status == "SUCCESS"

    assert world.replies(later)[0].status == "SUCCESS"
    assert _conflicts(world) >= 1
    assert set(world.holders("k").values()) == {"after it"}


def test_a_write_that_was_confirmed_and_turns_out_to_be_the_older_one_is_a_conflict():
    world = World(3)
    first = world.submit("server1", Request("SET", "k", "older"))
    second = world.submit("server2", Request("SET", "k", "newer"))
    world.collect()
    world.deliver("server2", "server3")  # the newer one is there first
    world.deliver("server1", "server3")
    world.run()

    assert [world.replies(one)[0].status for one in (first, second)] == ["SUCCESS"] * 2
    assert _conflicts(world) >= 1
    assert len(set(world.holders("k").values())) == 1
