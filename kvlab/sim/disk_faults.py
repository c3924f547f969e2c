"""What a simulated disk suffers, as values, and the counts that prove it. Nothing is stored here.

Invariants:

1. The same faults, calls and seed give the same failures and times.
2. A disk without faults never fails, takes no time and draws nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from kvlab.errors import UsageError
from kvlab.rng import Rng

FolderCall = Literal["names", "create", "open", "rename", "remove", "sync_dir"]
FileCall = Literal["append", "read", "truncate", "preallocate", "sync"]
Call = FolderCall | FileCall


class Stopped(BaseException):
    """The process has ended in the middle of its work, as asked by `stop_after`.

    No DiskError, and nothing that code catches by accident: there is nobody left to catch it.
    """

    def __init__(self, share: float) -> None:
        super().__init__("the process has ended")
        self.share = share  # of the append that it ended in, that was done


@dataclass(slots=True)
class Failure:
    """Calls that fail as a disk does (EIO): some succeed yet, then some fail."""

    call: Call
    name: str | None  # of the file, or None for all
    after: int
    times: int | None  # or None for all
    keep: bool  # pages that a failed sync could not write can still be read


@dataclass(slots=True)
class Counts:
    """What a disk did and suffered. Nothing counts it down."""

    calls: Counter[Call] = field(default_factory=Counter)
    failures: Counter[Call] = field(default_factory=Counter)  # of them, that a Failure met
    full: int = 0  # calls that met the limit of bytes
    out_of_files: int = 0
    kills: int = 0
    power_cuts: int = 0
    wipes: int = 0
    lost_bytes: int = 0  # places in files that a power cut or failed sync changed
    lost_names: int = 0  # creates, renames and removes that a power cut undid
    torn_writes: int = 0
    flipped_bits: int = 0


class Faults:
    """The faults of one disk. They act until `heal`."""

    def __init__(self, rng: Rng) -> None:
        self.capacity_bytes: int | None = None
        self.open_files_max: int | None = None
        self._rng = rng
        self._failures: list[Failure] = []
        self._sync_us = 0
        self._jitter_us = 0
        self._calls_left: int | None = None
        self._is_stopped = False

    def heal(self) -> None:
        """Take all faults back, but not what they did."""
        self.limit_capacity(None)
        self.limit_open_files(None)
        self.slow_sync(0)
        self._failures.clear()
        self._calls_left = None

    def limit_capacity(self, size_bytes: int | None) -> None:
        """Let the disk have so many bytes in all; fewer than it holds now means full."""
        self.capacity_bytes = size_bytes

    def limit_open_files(self, count: int | None) -> None:
        """Let the process have so many files open."""
        self.open_files_max = count

    def slow_sync(self, us: int, jitter_us: int = 0) -> None:
        """Let syncs take a time, drawn from `us` to `us + jitter_us`."""
        self._sync_us, self._jitter_us = us, jitter_us

    def fail(
        self,
        call: Call,
        *,
        name: str | None = None,
        after: int = 0,
        times: int | None = 1,
        pages: Literal["dropped", "kept"] = "dropped",
    ) -> None:
        """Let calls (on one file or all) fail: `after` succeed, then `times` fail, or all.

        Pages that a failed sync did not write are lost in any case. Reads show it at once
        (dropped), or only when the pages leave the cache, as by a power cut (kept).
        """
        if after < 0 or (times is not None and times < 1):
            raise UsageError("a failure comes after 0 or more calls, and 1 time or more")
        self._failures.append(Failure(call, name, after, times, pages == "kept"))

    def stop_failing(self) -> None:
        """Let no call fail any more."""
        self._failures.clear()

    def stop_after(self, calls: int) -> None:
        """Let the process end after so many calls: the next raises Stopped, as all others then.

        An append that is met may be done in part, like a write that a signal ends.
        """
        self._calls_left = calls

    def resume(self) -> None:
        """A new process begins."""
        self._is_stopped = False
        self._calls_left = None

    def meet(self, call: Call, name: str) -> Failure | None:
        """Say how a call fails, if it does. Raise Stopped."""
        if self._is_stopped:
            raise Stopped(0.0)
        if self._calls_left is not None:
            if not self._calls_left:
                self._is_stopped = True
                raise Stopped(self._rng.random())
            self._calls_left -= 1
        for failure in self._failures:
            if failure.call != call or failure.name not in {None, name}:
                continue
            if failure.after:
                failure.after -= 1
                continue
            if failure.times is not None:
                failure.times -= 1
                if not failure.times:
                    self._failures.remove(failure)
            return failure
        return None

    def sync_us(self) -> int:
        """Draw how long the next sync takes."""
        return self._sync_us + (self._rng.randint(0, self._jitter_us) if self._jitter_us else 0)
