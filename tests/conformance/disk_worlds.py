"""The two worlds that a disk stands in, with the same troubles in both: real ones, or asked for.

The real troubles are those that any user can make: limits of the test's own process, and a file that
the kernel refuses to read.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvlab.live.disk import LiveDisk, LiveFile
from kvlab.rng import Rng
from kvlab.sim.clock import Clock
from kvlab.sim.disk import SimDisk


class _Disk(LiveDisk):
    """A real disk that knows what is open, because here its process cannot end."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.files: list[LiveFile] = []

    def _opened(self, name: str, flags: int, doing: str) -> LiveFile:
        file = super()._opened(name, flags, doing)
        self.files.append(file)
        return file

    def close(self) -> None:
        for file in self.files:
            file.close()
        super().close()


class Real:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.disk = _Disk(folder)

    def restart(self) -> None:
        """The process ends and another begins."""
        self.close()
        self.disk = _Disk(self._folder)

    def close(self) -> None:
        self.disk.close()

    @contextlib.contextmanager
    def room(self, file: Any, size_bytes: int) -> Iterator[None]:
        """Let the disk be full when `file` has grown by so many bytes."""
        with _limit(resource.RLIMIT_FSIZE, file.size + size_bytes):
            yield

    @contextlib.contextmanager
    def files_left(self, count: int) -> Iterator[None]:
        """Let the process open so many files and no more."""
        listed = {int(name) for name in os.listdir("/proc/self/fd")}
        used = {number for number in listed if Path(f"/proc/self/fd/{number}").exists()}
        limit = 0
        while count or limit in used:
            count -= limit not in used
            limit += 1
        with _limit(resource.RLIMIT_NOFILE, limit):
            yield

    def broken(self, name: str) -> None:
        """Make a file that cannot be read, written or synced: address 0 of this process."""
        (self._folder / name).symlink_to("/proc/self/mem")


@contextlib.contextmanager
def _limit(what: int, value: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


class Simulated:
    """A disk in memory."""

    def __init__(self) -> None:
        self.disk = SimDisk(Clock(), Rng(1))

    def restart(self) -> None:
        self.disk.kill()

    def close(self) -> None:
        pass

    @contextlib.contextmanager
    def room(self, file: Any, size_bytes: int) -> Iterator[None]:
        self.disk.faults.limit_capacity(self.disk.used_bytes + size_bytes)
        try:
            yield
        finally:
            self.disk.faults.heal()

    @contextlib.contextmanager
    def files_left(self, count: int) -> Iterator[None]:
        self.disk.faults.limit_open_files(self.disk.open_files + count)
        try:
            yield
        finally:
            self.disk.faults.heal()

    def broken(self, name: str) -> None:
        self.disk.create(name).close()
        for call in ("read", "append", "sync"):
            self.disk.faults.fail(call, name=name, times=None)


World = Real | Simulated
