"""Members that are away for too long: others take their place, and a majority must have missed them."""

from __future__ import annotations

import pytest
from world import World

from kvlab.kv.node import SILENCE_TICKS, TICK_US
from kvlab.kv.suspicion import LATE_US, SCORE_MAX, TELL_TICKS, LocalHealth
from kvlab.wire.peer import FrameError

AFTER = 30  # ticks


def _world(count: int = 5) -> World:
    world = World(count, dead_after_ticks=AFTER)
    for number in range(20):
        world.set("server1", f"k{number}", "v")
    return world


def _members(world: World, name: str = "server1") -> set[str]:
    current = world.nodes[name].state.map
    assert current is not None
    return set(current.member_ids)


def test_a_node_that_is_away_for_too_long_is_replaced() -> None:
    world = _world()
    world.kill("server3")
    world.tick(AFTER - 2)
    assert "server3" in _members(world)

    world.tick(4 + TELL_TICKS)
    world.settle()
    world.tick(20)

    assert _members(world) == {"server1", "server2", "server4", "server5"}
    for number in range(20):
        held = world.holders(f"k{number}")
        assert list(held.values()) == ["v"] * 3
    assert not world.nodes["server1"].state.map.joint_ranges()


def test_who_comes_back_in_time_stays() -> None:
    world = _world()
    nodes = world.nodes
    away = [("server3", other) for other in sorted(nodes) if other != "server3"]
    for pair in away:
        world.disconnect(*pair)
    world.tick(AFTER - 5)
    for pair in away:
        world.connect(*pair)
    world.tick(AFTER + TELL_TICKS)

    assert "server3" in _members(world)
    assert nodes["server1"].state.epoch == 1


def test_who_comes_back_while_others_take_its_place_keeps_it() -> None:
    world = _world()
    away = [("server3", other) for other in sorted(world.nodes) if other != "server3"]
    for pair in away:
        world.disconnect(*pair)
    while not world.nodes["server1"].state.map.member("server3").leaving:
        for node in list(world.nodes.values()):
            node.tick(world.now_us)
        world.now_us += 100_000
        world.collect()
        for wire in list(world.wires):
            world.deliver(*wire)
    for pair in away:
        world.connect(*pair)

    world.settle()
    world.tick(20)

    server3 = world.nodes["server1"].state.map.member("server3")
    assert server3 is not None
    assert not server3.leaving
    assert not server3.dead
    assert not world.nodes["server3"].membership.refused


def test_who_comes_back_too_late_is_told_to_begin_anew() -> None:
    world = _world()
    away = [("server3", other) for other in sorted(world.nodes) if other != "server3"]
    for pair in away:
        world.disconnect(*pair)
    world.tick(AFTER + 2 * TELL_TICKS)
    for _ in range(100):
        world.tick()
        if "server3" not in _members(world):
            break
    assert "server3" not in _members(world)

    for pair in away:
        world.connect(*pair)
    world.run()

    membership = world.nodes["server3"].membership
    assert membership.is_replaced
    assert "others took its place" in membership.refused
    assert not world.nodes["server3"].state.left, "it did not ask to leave"


def test_one_node_that_misses_another_is_not_enough() -> None:
    world = _world()
    world.disconnect("server1", "server3")

    world.tick(3 * AFTER)

    assert "server3" in _members(world)
    assert world.nodes["server1"].state.epoch == 1


def test_a_minority_replaces_nobody() -> None:
    world = _world()
    for name in ("server3", "server4", "server5"):
        world.kill(name)

    world.tick(3 * AFTER)

    assert world.nodes["server1"].state.epoch == 1


def test_nobody_is_replaced_while_another_may_yet_come_back() -> None:
    world = _world()
    world.kill("server3")
    world.tick(AFTER // 2)
    world.kill("server4")
    world.tick(AFTER // 2 + TELL_TICKS)
    assert world.nodes["server1"].state.epoch == 1, "server4 would have been an heir"


def test_without_a_majority_of_a_range_nobody_is_replaced() -> None:
    world = World(5, dead_after_ticks=AFTER, replication=2, r=1, w=1)
    world.set("server1", "k", "v")
    world.kill("server3")

    world.tick(3 * AFTER)

    assert world.nodes["server1"].state.epoch == 1


def test_never_means_never() -> None:
    world = World(3, dead_after_ticks=0)
    world.kill("server3")

    world.tick(100)

    assert world.nodes["server1"].state.epoch == 1


@pytest.mark.parametrize("flat", [[1], ["server3", 4], [1, "x"], [1, None], [True, 1.5]])
def test_a_malformed_report_ends_the_link(flat: list) -> None:
    world = _world(3)
    server1 = world.nodes["server1"]

    with pytest.raises((FrameError, ValueError)):
        server1.membership.suspicion.on_absent(server1.state.links["server2"], flat)


# -- a node that is late itself -------------------------------------------------------------------


def _counted(lags: list[int]) -> list[tuple[int, bool]]:
    health = LocalHealth()
    told = []
    for lag_us in lags:
        health.tick(lag_us)
        told.append((health.score, health.counts))
    return told


def test_every_tick_of_a_node_in_time_counts() -> None:
    assert _counted([0, LATE_US - 1, 0]) == [(0, True)] * 3


def test_a_late_node_counts_fewer_ticks_and_recovers_step_by_step() -> None:
    late, after = [3 * LATE_US], [0] * 8
    assert _counted(late + after) == [
        *((3, False), (2, False), (1, True), (0, True)),
        *((0, True),) * 5,
    ]


def test_the_doubt_has_a_bound() -> None:
    told = _counted([LATE_US] * 900)
    assert told[-1][0] == SCORE_MAX
    assert 900 // (SCORE_MAX + 1) - 1 <= sum(counts for _, counts in told) <= 101
    assert _counted([10**9])[0][0] == SCORE_MAX


def _ticks_until_dropped(lag_us: int) -> int:
    world = _world(2)
    node = world.nodes["server1"]
    for ticks in range(1, 1000):
        world.now_us += TICK_US + lag_us
        node.tick(world.now_us, lag_us)
        if node.drop_links():
            return ticks
    raise AssertionError("never")


def test_a_silent_peer_is_taken_for_gone_later_by_a_node_that_is_late() -> None:
    in_time = _ticks_until_dropped(0)
    assert SILENCE_TICKS <= in_time <= SILENCE_TICKS + 1
    assert 5 * SILENCE_TICKS < _ticks_until_dropped(LATE_US) <= (SCORE_MAX + 1) * in_time


def test_a_late_node_calls_nobody_dead_before_its_time() -> None:
    world = _world()
    world.kill("server3")
    for _ in range(AFTER + 5):
        world.now_us += TICK_US
        for node in world.nodes.values():
            node.tick(world.now_us, LATE_US)
        world.run()
    assert "server3" in _members(world)
    world.tick(AFTER + 2 * TELL_TICKS)
    world.settle()
    assert "server3" not in _members(world)
