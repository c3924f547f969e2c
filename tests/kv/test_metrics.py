"""What probes and scrapers are told, read back by Prometheus' own parser."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families
from session_client import Client
from world import World


def _get(world: World, path: str, name: str = "server1", method: str = "GET") -> tuple[int, str]:
    client = Client(world, name)
    told = client.session.feed(f"{method} {path} HTTP/1.1\r\n\r\n".encode(), world.now_us)
    assert client.session.close_due
    head, _, body = told.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


def _metrics(world: World, name: str = "server1") -> dict[tuple[str, ...], float]:
    status, body = _get(world, "/metrics", name)
    assert status == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def test_the_metrics_tell_what_the_node_is_and_does() -> None:
    world = World(3)
    for number in range(10):
        world.set("server1", f"k{number}", "v")
    world.kill("server3")

    found = _metrics(world)

    assert found["kvlab_info", "server1", "test"] == 1
    assert found["kvlab_ready",] == 1
    assert found["kvlab_writable",] == 1
    assert found["kvlab_movements", "copying"] == found["kvlab_movement_left_bytes",] == 0
    for name in ("read_repairs", "fence_refusals", "moved_ranges", "ballot_conflicts"):
        assert found[f"kvlab_{name}_total",] == 0
    assert found["kvlab_keys",] == 10
    assert found["kvlab_requests_total",] == 10
    assert found["kvlab_degraded_total",] == 0, "also what has not happened yet"
    assert found["kvlab_peers", "up"] == 1
    assert found["kvlab_peers", "down"] == 1
    assert found["kvlab_ranges", "held"] == 16


def test_what_happens_is_counted() -> None:
    world = World(3)
    world.kill("server2")
    world.kill("server3")
    world.set("server1", "k", "v")
    world.nodes["server1"].state.refuse("the disk is full")

    found = _metrics(world)

    assert found["kvlab_degraded_total",] == 1
    assert found["kvlab_writable",] == 0


def test_a_label_may_hold_anything() -> None:
    world = World(1)
    state = world.nodes["server1"].state
    state.settings = replace(state.settings, cluster='a "b"\\\nc')

    assert _metrics(world)["kvlab_info", "server1", 'a "b"\\\nc'] == 1


def test_a_node_is_healthy_while_it_serves() -> None:
    world = World(3, found=False)
    status, body = _get(world, "/healthz")
    assert status == 503
    assert "majority" in body

    world.mesh()
    world.run()
    assert _get(world, "/healthz") == (200, "ok\n")
    assert _get(world, "/healthz", method="HEAD") == (200, "")

    world.nodes["server1"].state.end_service()
    assert _get(world, "/healthz")[0] == 503
