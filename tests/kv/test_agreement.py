from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from world import World

from kvlab.kv.peering import Peering, Session
from kvlab.ring import change
from kvlab.rng import Rng
from kvlab.sim.run import run
from kvlab.sim.stress import split, two_drivers


def rivals(world: World, *names: str) -> list:
    """Let several members propose a map each, all for the place after the present one."""
    maps = []
    for number, name in enumerate(names, 10):
        node = world.nodes[name]
        new = change.join(node.state.map, f"server{number}", f"server{number}:1")
        node.membership.agreement.propose(new, world.now_us)
        maps.append(new)
    return maps


def maps_of_epoch_2(world: World) -> set[str]:
    maps = [node.state.map for node in world.nodes.values()]
    return {one.digest() for one in maps if one.epoch == 2}


def test_a_proposal_without_rivals_is_everybodys_map() -> None:
    world = World(3)
    [new] = rivals(world, "server1")
    world.run()

    assert {node.state.map for node in world.nodes.values()} == {new}
    assert all(node.membership.agreement.is_idle for node in world.nodes.values())


@pytest.mark.parametrize("seed", range(150))
def test_of_rival_maps_one_is_chosen_in_whatever_order_messages_come(seed: int) -> None:
    rng = Rng(seed, "rivals")
    world = World(rng.choice((3, 4, 5)))
    names = sorted(world.nodes)
    rivals(world, *rng.sample(names, rng.choice((2, 3))))
    chosen: set[str] = set()
    for _ in range(400):
        world.collect()
        source, target = rng.choice(sorted(world.wires))
        if rng.random() < 0.04:
            world.disconnect(source, target)
            world.connect(source, target)
        elif rng.random() < 0.03:
            for node in world.nodes.values():
                node.membership.agreement.tick(world.now_us)
        else:
            world.deliver(source, target)
        chosen |= maps_of_epoch_2(world)

        assert len(chosen) <= 1

    world.tick(30)
    assert len(chosen | maps_of_epoch_2(world)) == 1 or world.nodes["server1"].state.epoch > 2


def test_a_minority_chooses_nothing() -> None:
    world = World(5)
    world.cut = {
        (a, b)
        for one, other in combinations(sorted(world.nodes), 2)
        for a, b in ((one, other), (other, one))
        if (a in ("server1", "server2")) != (b in ("server1", "server2"))
    }
    rivals(world, "server1")
    world.run()
    assert [node.state.epoch for node in world.nodes.values()] == [1] * 5

    world.cut = set()
    world.run()
    assert [node.state.epoch for node in world.nodes.values()] == [2] * 5


@pytest.mark.parametrize("scenario", [two_drivers, split])
@pytest.mark.parametrize("seed", range(1, 6))
def test_two_who_believe_to_drive_make_no_two_maps(scenario, seed: int) -> None:
    # Before members voted, 18 of 60 such runs had two maps of one epoch.
    outcome = run(scenario(seed))

    assert outcome.failed == [], outcome.judgement.because


def test_a_joiner_that_met_only_another_joiner_goes_on_to_ask_its_seeds() -> None:
    world = World(2, found=False)
    node = world.nodes["server1"]
    peering = Peering(node, ("server9:1",))
    world.connect("server1", "server2")
    node.state.settings = replace(node.state.settings, initial=())
    other = Session(dialed=True, target="server2", address="server2:1", deadline_us=0)
    other.hello = world.nodes["server2"].hello("server1")
    peering.current["server2"] = other

    peering.advance(world.now_us)

    assert [effect.session.address for effect in peering.take_effects()] == ["server9:1"]
