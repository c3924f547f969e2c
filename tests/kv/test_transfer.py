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


def _told(world: World, name: str) -> list[dict]:
    return world.nodes[name].admin.status(world.now_us)["movements"]


def test_a_moving_range_tells_its_phase_what_is_left_and_what_it_waits_for(monkeypatch):
    monkeypatch.setattr(donation, "CHUNK_RECORDS", 3)
    monkeypatch.setattr(transfer, "PULLS_MAX", 1)
    world = World(3)
    _fill(world, 200)
    world.start("server4")
    world.connect("server4", "server1")
    seen: dict[str, dict] = {}
    left: dict[int, list[int]] = {}
    for turn in range(400):
        if turn in (20, 200):
            world.now_us += 100_000
            for node in world.nodes.values():
                node.tick(world.now_us)
        if turn == 200:
            world.mesh()
        world.collect()
        for pair in list(world.wires):
            world.deliver(*pair)
        for name in world.nodes:
            for one in _told(world, name):
                seen.setdefault(one["phase"] + (":" + one["source"] if one["source"] else ""), one)
                if one["phase"] == "copying" and one["left_bytes"] >= 0:
                    left.setdefault(one["range"], []).append(one["left_bytes"])
    phases = {name.partition(":")[0] for name in seen}
    assert {"waiting", "copying", "comparing"} <= phases
    assert seen["waiting"]["waits_for"] == "its turn"
    assert any(max(each) > 100 for each in left.values())
    assert all(each == sorted(each, reverse=True) for each in left.values())

    world.settle()
    world.tick(5)

    assert not any(_told(world, name) for name in world.nodes)
    counters = world.nodes["server4"].state.counters
    assert counters["moved_ranges"] > 0
    assert counters["moved_keys"] == world.nodes["server4"].state.table.key_count
    assert counters["moved_bytes"] >= world.nodes["server4"].state.table.byte_count


def test_a_range_that_cannot_be_had_says_whom_it_waits_for():
    world = World(3)
    _fill(world, 50)
    for name in ("server1", "server2", "server3"):
        world.cut |= {("server4", name)}
    _begin_join(world)
    world.cut.clear()
    world.tick(1)
    for name in ("server1", "server2", "server3"):
        world.disconnect("server4", name)

    told = _told(world, "server4")

    assert {one["phase"] for one in told} <= {"waiting", "ready"}
    assert all("to be reached" in one["waits_for"] for one in told if one["phase"] == "waiting")
