from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import World

from kvlab.kv import donation, transfer


def _fill(world: World, count: int) -> dict[str, str]:
    data = {f"key{number}": f"value{number}" * (number % 5 + 1) for number in range(count)}
    for key, value in data.items():
        assert world.set("server1", key, value).status == "SUCCESS"
    for key in [f"key{number}" for number in range(0, count, 7)]:
        assert world.delete("server2", key).status == "SUCCESS"
        del data[key]
    return data


def _begin_join(world: World) -> None:
    world.start("server4")
    world.connect("server4", "server1")
    world.tick(2)
    world.mesh()


def _check(world: World, data: dict[str, str]) -> None:
    for name in world.nodes:
        for key, value in data.items():
            assert world.get(name, key) == value
    for number in range(0, 70, 7):
        assert world.get("server4", f"key{number}") is None


@pytest.mark.parametrize(("records", "size"), [(1, 10**6), (3, 10**6), (1000, 1), (1000, 60)])
def test_a_range_arrives_whole_in_chunks_of_any_size(monkeypatch, records, size):
    monkeypatch.setattr(donation, "CHUNK_RECORDS", records)
    monkeypatch.setattr(donation, "CHUNK_BYTES", size)
    world = World(3)
    data = _fill(world, 70)

    _begin_join(world)
    world.settle()
    world.tick(5)

    _check(world, data)
    moves = list(world.nodes["server4"].transfers.moves)
    assert sum(one["keys"] for one in moves) == world.nodes["server4"].state.table.key_count


def test_few_ranges_are_on_their_way_at_once(monkeypatch):
    monkeypatch.setattr(transfer, "PULLS_MAX", 2)
    monkeypatch.setattr(donation, "CHUNK_RECORDS", 1)
    world = World(3)
    data = _fill(world, 70)
    _begin_join(world)
    pulls = world.nodes["server4"].transfers
    most = 0
    for _ in range(5000):
        most = max(most, len(pulls._asked))
        world.collect()
        if not sum(world.deliver(*pair) for pair in list(world.wires)):
            break
    world.settle()
    world.tick(5)

    assert 0 < most <= 2
    _check(world, data)


@given(st.integers(0, 250), st.sampled_from(["server1", "server2", "server3"]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_donor_that_dies_at_any_moment_loses_nothing(deliveries, victim):
    world = World(3, replication=3, range_count=16)
    data = _fill(world, 30)
    world.start("server4")
    world.connect("server4", "server1" if victim != "server1" else "server2")
    for _ in range(2):
        world.now_us += 100_000
        for node in world.nodes.values():
            node.tick(world.now_us)
        world.run()
    world.mesh()
    for _ in range(deliveries):
        world.collect()
        pairs = [pair for pair, wire in world.wires.items() if wire]
        if not pairs:
            break
        world.deliver(*pairs[0])
    world.kill(victim)
    world.start(victim, initial=world.initial)
    world.mesh()
    world.settle()
    world.tick(5)

    for key, value in data.items():
        assert world.get("server4", key) == value
        assert world.get(victim, key) == value
