"""The two worlds of a node that keeps its data on disk, and what can happen to disk and process."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path
from typing import Any, Literal

import pytest

from kvlab.errors import InfraError
from kvlab.storage.disk import DiskError
from tests.conformance.faulty_node import Faults
from tests.conformance.host_worlds import NODE, Real, Simulated
from tests.live.node_process import START_SECONDS_MAX

SEGMENT = "log-000000000001"


class RealDurable(Real):
    """One node in a process of its own, with a folder."""

    def __init__(self, folder: Path, sync: str) -> None:
        self._faults = Faults(folder / "faults")
        super().__init__(folder, self._faults.program)
        self._data = folder / "data"
        self._sync = sync

    def begin(self) -> None:
        self.start()

    def start(self, *_: Any) -> None:
        super().start(*self._flags)

    def why_not_start(self) -> str:
        """Start a process that ends by itself; return what it said."""
        node = self._cluster.begin(NODE, *self._flags, port=self._port)
        assert node.wait(START_SECONDS_MAX) == InfraError.exit_code, node.log
        assert "Traceback" not in node.log, node.log
        return node.log.splitlines()[-1]

    @property
    def _flags(self) -> tuple[str, ...]:
        return ("--data", str(self._data), "--sync", self._sync)

    def break_sync(self) -> None:
        """Let every sync of the disk fail."""
        self._faults.set("sync-fails")

    def mend_sync(self) -> None:
        """Take that back."""
        self._faults.clear("sync-fails")

    def slow_sync(self, us: int) -> None:
        """Let every sync take so long."""
        self._faults.set("sync-us", us)

    def set_clock(self, off_us: int) -> None:
        """Let the machine's clock be off by so much."""
        self._faults.set("clock-us", off_us)

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

    def __init__(self, seed: int, sync: str, pages: Literal["dropped", "kept"] = "dropped") -> None:
        super().__init__(seed)
        self._sync = sync
        self._pages: Literal["dropped", "kept"] = pages

    def start(self, *_: Any) -> None:
        super().start(self._sync)

    def why_not_start(self) -> str:
        with pytest.raises(DiskError) as caught:
            self.start()
        return caught.value.message

    def break_sync(self) -> None:
        for call in ("sync", "sync_dir"):
            self._host.disk.faults.fail(call, times=None, pages=self._pages)

    def mend_sync(self) -> None:
        self._host.disk.faults.stop_failing()

    def slow_sync(self, us: int) -> None:
        self._host.disk.faults.slow_sync(us)

    def set_clock(self, off_us: int) -> None:
        self._host.skew_us = off_us

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
