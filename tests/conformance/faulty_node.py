"""A real node with a disk and a clock that a test can break: `python faulty_node.py FOLDER --id ...`.

It is `python -m kvlab.live` in all but three calls to the system, which ask files of FOLDER each time:

    sync-fails   is there: fsync and fdatasync fail (EIO), and the disk is not asked
    sync-us      so long they take
    clock-us     so far the wall clock is off
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kvlab.live.node import main


class Faults:
    """What a test asks of one process, from outside (`set`, `clear`) and inside."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def program(self) -> tuple[str, ...]:
        """Return what starts a node that suffers these."""
        self._folder.mkdir(exist_ok=True)
        return (__file__, str(self._folder))

    def set(self, name: str, value: int = 0) -> None:
        """Begin a fault. It is whole or not there at any moment, for whoever looks."""
        self._folder.mkdir(exist_ok=True)
        new = self._folder / f"{name}.new"
        new.write_text(str(value))
        new.rename(self._folder / name)

    def clear(self, name: str) -> None:
        """End a fault."""
        (self._folder / name).unlink(missing_ok=True)

    def get(self, name: str) -> int | None:
        """Return how much of a fault there is; None if it is not."""
        try:
            return int((self._folder / name).read_text())
        except FileNotFoundError:
            return None


def _break(faults: Faults) -> None:
    real_time_ns = time.time_ns

    def broken(sync: Callable[[int], None]) -> Callable[[int], None]:
        def call(fd: int) -> None:
            slow_s = (faults.get("sync-us") or 0) / 1e6
            time.sleep(slow_s)
            if faults.get("sync-fails") is not None:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            sync(fd)

        return call

    os.fsync, os.fdatasync = broken(os.fsync), broken(os.fdatasync)  # type: ignore[assignment]
    time.time_ns = lambda: real_time_ns() + 1000 * (faults.get("clock-us") or 0)


if __name__ == "__main__":
    _break(Faults(Path(sys.argv[1])))
    sys.exit(main(sys.argv[2:]))
