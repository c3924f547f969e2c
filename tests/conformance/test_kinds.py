"""Every kind of fault that a scenario can have is asked of both worlds, or is said here why not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from kvlab.fault.fault import LINK_KINDS, NODE_KINDS
from kvlab.spec.scenario import FAULT_KINDS
from tests.conformance import cluster_worlds, durable_worlds, host_worlds, link_worlds

HOSTS = (host_worlds.Real, host_worlds.Simulated)
DURABLE = (durable_worlds.RealDurable, durable_worlds.SimulatedDurable)
CLUSTERS = (cluster_worlds.RealSeveral, cluster_worlds.SimulatedSeveral)
LINKS = (link_worlds.Real, link_worlds.Simulated)

# Kind -> the two worlds, what brings the fault about in both, and the file that asks what follows.
BODIES = {
    "kill": (HOSTS, "kill", "test_hosts.py"),
    "stop": (HOSTS, "stop", "test_hosts.py"),
    "pause": (HOSTS, "pause", "test_hosts.py"),
    "wipe": (DURABLE, "wipe", "test_hosts_durable.py"),
    "bit-flip": (DURABLE, "flip_bit", "test_hosts_durable.py"),
    "disk-full": (DURABLE, "fill", "test_hosts_durable.py"),
    "sync-fail": (DURABLE, "break_sync", "test_hosts_sync.py"),
    "skew": (DURABLE, "set_clock", "test_clocks.py"),
    "join": (CLUSTERS, "join", "test_clusters.py"),
    "leave": (CLUSTERS, "leave", "test_clusters.py"),
    "partition": (LINKS, "cut", "test_links.py"),
    "link": (LINKS, "rule", "test_links.py"),
    "reset": (LINKS, "reset", "test_link_resets.py"),
}
NO_BODY = {
    "slow": "it is a pause and a resume (test_hosts.py), many times a second",
    "power-cut": "no user may take the power from a real machine; that a node says nothing before the"
    " disk has it (test_hosts_sync.py) and what a cut leaves of a simulated disk"
    " (tests/sim/test_disk_power.py) stand in",
}


def test_every_kind_of_fault_has_a_body_or_a_reason():
    assert sorted([*BODIES, *NO_BODY]) == sorted(FAULT_KINDS)
    assert sorted([*NODE_KINDS, *LINK_KINDS]) == sorted(FAULT_KINDS)


@pytest.mark.parametrize("kind", BODIES)
def test_both_worlds_can_bring_it_about_and_a_body_does(kind):
    worlds, hand, file = BODIES[kind]
    body = ast.parse(Path(__file__).with_name(file).read_text())
    calls = [one.func for one in ast.walk(body) if isinstance(one, ast.Call)]

    assert all(callable(getattr(world, hand, None)) for world in worlds)
    assert any(isinstance(call, ast.Attribute) and call.attr == hand for call in calls)
