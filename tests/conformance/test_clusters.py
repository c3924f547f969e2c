"""Nodes that join and leave a cluster that works, asked of processes and simulated hosts alike.

Where the two differ, the bodies ask for what both promise: a real node that has left drains its
clients before it ends, a simulated one ends at once; in both its connections end and nobody listens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.cluster_worlds import COPIES, RealSeveral, SimulatedSeveral

World = RealSeveral | SimulatedSeveral
WORLDS = [pytest.param(None, marks=pytest.mark.live, id="real")]
WORLDS += [pytest.param(seed, id=f"simulated-{seed}") for seed in range(2)]

RANGES = 256
DATA = {f"key{number}": f"value{number}" for number in range(60)}
LATE = {f"key{number}": f"late{number}" for number in range(0, 60, 3)}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made: World = (
        RealSeveral(tmp_path) if request.param is None else SimulatedSeveral(request.param)
    )
    try:
        yield made
        made.close()
    finally:
        made.end()


def _write(world: World, node: str, data: dict[str, str]) -> None:
    asked = ({"type": "SET", "key": key, "value": value} for key, value in data.items())
    for reply in world.answers(node, *asked):
        assert (reply["status"], reply.get("degraded")) == ("SUCCESS", None), reply


def _check(world: World, data: dict[str, str], *names: str) -> None:
    """Every node answers for every key, and its owners hold it, by their own word."""
    held = Counter[str]()
    for name in names:
        replies = world.answers(name, *({"type": "GET", "key": key} for key in data))
        assert {reply["key"]: reply["value"] for reply in replies} == data
        for reply in world.answers(name, *({"type": "INSPECT", "key": key} for key in data)):
            info = reply["info"]
            if name in info["owners"]:
                assert info["present"], (name, reply)
                held[reply["key"]] += 1
    assert held == dict.fromkeys(data, min(COPIES, len(names)))


def _changes(world: World, node: str) -> list[tuple[str, str, bool]]:
    """Return the changes that a node has seen, and whether each moved the least that is possible."""
    return [
        (one["change"], one["subject"], one["moved_copies"] == one["minimum_copies"] > 0)
        for one in world.answer(node, type="MOVES")["info"]["changes"]
    ]


def _refusal(world: World, name: str) -> str:
    """Ask server1 for a leave that is refused; return why."""
    reply = world.leave(name, asked="server1")
    assert (reply["status"], reply["code"]) == ("ERROR", "BAD_REQUEST")
    return reply["error"]


def test_a_node_that_joins_is_filled_and_all_keys_are_read_everywhere(world):
    world.found(2)
    _write(world, "server1", DATA)
    world.join("server3", through="server2")
    _write(world, "server2", LATE)  # while it is on its way in
    names = ("server1", "server2", "server3")
    world.wait_whole(*names)

    _check(world, DATA | LATE, *names)
    assert _changes(world, "server1") == [("join", "server3", True)]
    held = [world.answer(name, type="STATUS")["info"]["ranges"] for name in names]
    assert sum(held) == RANGES * COPIES
    assert max(held) - min(held) <= 1


def test_a_node_that_leaves_hands_over_ends_and_may_come_back(world):
    world.found(3)
    _write(world, "server2", DATA)
    old = world.connect("server3")
    reply = world.leave("server3", asked="server1")
    assert (reply["status"], reply["info"]) == ("SUCCESS", {"id": "server3"})
    _write(world, "server2", LATE)  # while it is on its way out
    world.wait_for(lambda: world.has_left("server3"), "its process to end")
    world.wait_for(lambda: old.gone, "its connections to end")
    late = world.dial("server3")
    world.wait_for(lambda: late.over, "nobody to listen any more")
    world.wait_whole("server1", "server2")

    assert not late.connected
    _check(world, DATA | LATE, "server1", "server2")
    assert _changes(world, "server1") == [("leave", "server3", True)]

    world.join("server3", through="server1")
    world.wait_whole("server1", "server2", "server3")
    _check(world, DATA | LATE, "server1", "server2", "server3")


def test_a_leave_is_refused_while_an_heir_is_down(world):
    world.found(2)
    _write(world, "server1", DATA)
    world.kill("server2")
    world.wait_for(
        lambda: world.answer("server1", type="STATUS")["info"]["peers"] == {"server2": "down"},
        "the death to be seen",
    )

    assert "server2 cannot be reached" in _refusal(world, "server1")
    assert world.answer("server1", type="STATUS")["info"]["epoch"] == 1
    assert world.answer("server1", type="GET", key="key1")["value"] == "value1"


def test_nodes_leave_by_themselves_down_to_the_last_which_may_not(world):
    world.found(2)
    _write(world, "server2", DATA)
    assert "not a member" in _refusal(world, "server3")
    assert world.leave("", asked="server2")["info"] == {"id": "server2"}
    world.wait_for(lambda: world.has_left("server2"), "its process to end")
    world.wait_whole("server1")

    _check(world, DATA, "server1")
    assert "the last member" in _refusal(world, "server1")
    _write(world, "server1", LATE)
    _check(world, DATA | LATE, "server1")
