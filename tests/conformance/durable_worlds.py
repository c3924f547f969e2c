"""The two worlds of a node that keeps its data on disk, and what can happen to disk and process."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path
from typing import Any

from tests.conformance.host_worlds import Real, Simulated

SEGMENT = "log-000000000001"


class RealDurable(Real):
    """One node in a process of its own, with a folder."""

    def __init__(self, folder: Path, sync: str) -> None:
        super().__init__(folder)
        self._data = folder / "data"
        self._sync = sync

    def begin(self) -> None:
        self.start()

    def start(self, *_: Any) -> None:
        super().start("--data", str(self._data), "--sync", self._sync)

    def wipe(self) -> None:
        """Empty the disk of a node that does not run."""
        shutil.rmtree(self._data)

    def flip_bit(self, near: bytes) -> None:
        """Turn over a bit of these bytes, where a node that does not run had written them first."""
        path = self._data / SEGMENT
        data = bytearray(path.read_bytes())
        data[data.index(near)] ^= 1
        path.write_bytes(data)

    def fill(self) -> None:
        """Leave no room on the disk."""
        self._limit(4096)

    def make_room(self) -> None:
        """Take that back."""
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size_bytes: int) -> None:
        assert self._node is not None
        _, most = resource.prlimit(self._node.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._node.pid, resource.RLIMIT_FSIZE, (size_bytes, most))


class SimulatedDurable(Simulated):
    """One node on a machine of the simulated network, with that machine's disk."""

    def __init__(self, seed: int, sync: str) -> None:
        super().__init__(seed)
        self._sync = sync

    def start(self, *_: Any) -> None:
        super().start(self._sync)

    def wipe(self) -> None:
        self._host.disk.wipe()

    def flip_bit(self, near: bytes) -> None:
        file = self._host.disk.open(SEGMENT)
        data = file.read_at(0, file.size)
        file.close()
        self._host.disk.flip_bit(SEGMENT, data.index(near), 0)

    def fill(self) -> None:
        self._host.disk.faults.limit_capacity(self._host.disk.used_bytes)

    def make_room(self) -> None:
        self._host.disk.faults.limit_capacity(None)
