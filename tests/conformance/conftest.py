"""Each test that asks for a disk runs in both worlds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvlab.storage.disk import Disk
from tests.conformance.disk_worlds import Real, Simulated, World


@pytest.fixture(params=["real", "simulated"])
def disk_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    world = Real(tmp_path) if request.param == "real" else Simulated()
    yield world
    world.close()


@pytest.fixture
def disk(disk_world: World) -> Disk:
    return disk_world.disk
