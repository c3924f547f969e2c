"""Each test that asks for a disk or a network runs in both worlds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvlab.storage.disk import Disk
from tests.conformance import link_worlds
from tests.conformance.disk_worlds import Real, Simulated, World

NETWORKS = [pytest.param(None, marks=pytest.mark.live, id="real")]
NETWORKS += [pytest.param(seed, id=f"simulated-{seed}") for seed in range(3)]


@pytest.fixture(params=["real", "simulated"])
def disk_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    world = Real(tmp_path) if request.param == "real" else Simulated()
    yield world
    world.close()


@pytest.fixture
def disk(disk_world: World) -> Disk:
    return disk_world.disk


@pytest.fixture(scope="session")
def shim_process() -> Iterator[link_worlds.ShimProcess]:
    process = link_worlds.ShimProcess()
    yield process
    process.close()


@pytest.fixture(params=NETWORKS)
def network(
    request: pytest.FixtureRequest,
) -> Iterator[link_worlds.Real | link_worlds.Simulated]:
    if request.param is None:
        process = request.getfixturevalue("shim_process")
        made: link_worlds.Real | link_worlds.Simulated = link_worlds.Real(process)
    else:
        made = link_worlds.Simulated(request.param)
    yield made
    made.close()
