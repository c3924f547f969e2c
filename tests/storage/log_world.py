"""A log on a simulated disk, and what may be expected of it after whatever happened."""

from __future__ import annotations

from typing import Any

from kvlab.rng import Rng
from kvlab.sim.clock import Clock
from kvlab.sim.disk import SimDisk
from kvlab.sim.disk_faults import Stopped
from kvlab.storage.disk import DiskError
from kvlab.storage.journal import META, RECORDS
from kvlab.storage.log import Log, Snapshot, Sync
from kvlab.storage.recovery import Recovery, recover

IDENTITY = 42


class LogWorld:
    """One node's log: numbered entries go in, and what was promised is kept."""

    def __init__(self, seed: int) -> None:
        self.clock = Clock()
        self.rng = Rng(seed, "log")
        self.disk = SimDisk(self.clock, self.rng.child("disk"))
        self.count = 0
        self.appended: list[int] = []  # numbers that are in the log or were
        self.promised: set[int] = set()  # numbers that were said to be durable
        self.got: list[int] = []
        self._places: list[tuple[int, int]] = []  # (number, position at which it is durable)
        self._sync: tuple[Sync, int] | None = None  # and when the disk is done with it
        self.snapshot: Snapshot | None = None
        self.recovery = self.recover()

    @property
    def log(self) -> Log:
        return self.recovery.log

    def recover(self) -> Recovery:
        self._sync = None
        self.snapshot = None
        self.got = []
        self.recovery = recover(self.disk, IDENTITY, self.rng.child("salt"), self._take)
        self.clock.run(self.disk.done_us)  # a node begins when its disk has done what it asked for
        return self.recovery

    def _take(self, entries: list[Any]) -> None:
        for kind, *what in entries:
            if kind == RECORDS:
                self.got += what[0][1::3]
            elif kind == META:
                self.got += what[1]

    # -- what a node does -----------------------------------------------------------------------

    def append(self, size: int) -> None:
        self.count += 1
        entry = [RECORDS, [b"k%d" % self.count, self.count, "v" * size]]
        position = self.log.append([entry])
        self.appended.append(self.count)
        self._places.append((self.count, position))

    def begin_sync(self) -> None:
        sync = self.log.begin_sync()
        if sync is not None:
            sync.run()
            self._sync = sync, self.disk.done_us

    def pass_time(self, us: int) -> None:
        self.clock.run(self.clock.now_us + us)
        if self._sync is not None and self._sync[1] <= self.clock.now_us:
            self.log.end_sync(self._sync[0])
            self._sync = None
            synced = self.log.synced
            self.promised.update(number for number, place in self._places if place <= synced)

    def write_snapshot(self) -> None:
        """A snapshot from its beginning to its end, the disk's time passing at each step."""
        snapshot = self.log.begin_snapshot()
        snapshot.append([[META, "all", list(self.appended)]])
        for sync in (snapshot.seal, snapshot.publish):
            sync().run()
            self.clock.run(self.disk.done_us)
        snapshot.clean()

    # -- what happens to it ---------------------------------------------------------------------

    def crash(self, kind: str) -> None:
        if kind == "kill":
            self.disk.kill()
        else:
            self.disk.power_cut(self.rng)
        self._places.clear()

    def check(self) -> None:
        """What was promised is there, in order, and nothing else than was said."""
        got = set(self.got)
        assert self.promised <= got
        assert got <= set(self.appended)
        assert self.recovery.damage == []
        self.promised = got  # from now on

    def step(self, what: str) -> None:
        """Do one of all these things; the process may be stopped anywhere."""
        try:
            if what == "append":
                self.append(self.rng.choice((0, 10, 700)))
            elif what == "sync":
                self.begin_sync()
            elif what == "time":
                self.pass_time(self.rng.choice((0, 50, 500)))
            elif what == "snapshot":
                self.write_snapshot()
            elif what == "stop":
                self.disk.faults.stop_after(self.rng.randrange(6))
            else:
                self.restart(what)
        except Stopped:
            self.restart(self.rng.choice(("kill", "power cut")))

    def restart(self, how: str) -> None:
        for _ in range(20):
            self.crash(how)
            try:
                self.recover()
            except Stopped:
                continue
            break
        self.check()

    def is_refused(self, size: int) -> bool:
        """Whether an append is refused; then the log is as it was."""
        before = self.log.position
        try:
            self.append(size)
        except DiskError:
            assert self.log.position == before
            return True
        return False
