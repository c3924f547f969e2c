"""A node's data on a real disk: the folder, its lock, and threads that wait for syncs.

What is kept, and what waits for it, is decided in `kv.keeper`; nothing here looks into the data.

Invariants:

1. One process at a time works in a folder.
2. While it is open, nothing is written to a connection past `say` but handshakes between nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

from kvlab.errors import InfraError
from kvlab.kv.keeper import Keeper, Policy, Said, Work, life_of
from kvlab.kv.node import Node
from kvlab.live.disk import LiveDisk, sync_parents
from kvlab.ring.slot import range_of
from kvlab.rng import Rng, fresh_seed
from kvlab.storage.disk import DiskFailedError
from kvlab.storage.journal import Saved
from kvlab.storage.log import identity_of
from kvlab.storage.recovery import Recovery, recover

INTERVAL_US = 100_000  # from one sync to the next with `--sync interval`
HELD_BYTES_MAX = 64 * 1024 * 1024  # of replies and frames that wait for the disk
PARENTS_SYNCED = 2  # above a new folder; the laboratory makes so many for each node
_LOCK_NAME = "lock"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Folder:
    """The folder of one node, locked, and what was found in it."""

    def __init__(self, path: str, *, cluster: str, node: str, range_count: int) -> None:
        """Open and read it. Raise InfraError: it cannot be used, is in use, or is another node's."""
        try:
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_fd = os.open(Path(path) / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise InfraError(f"cannot use the folder {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock_fd)
            raise InfraError(
                f"the folder {path} is in use by another node",
                hint="give each node a folder of its own (--data)",
            ) from error
        self.disk = LiveDisk(path)
        self.saved = Saved(range_count, lambda key: range_of(key, range_count))
        self.recovery: Recovery = recover(
            self.disk, identity_of(cluster, node), Rng(fresh_seed(), "log"), self.saved.apply
        )
        if self.recovery.is_new:
            sync_parents(Path(path), PARENTS_SYNCED)
        try:
            self.machine = _BOOT_ID.read_text().strip()
        except OSError:  # no such thing here: then every start counts as one of the machine
            self.machine = str(fresh_seed())

    def life(self, policy: Policy, *, together: bool = False) -> int:
        """Return the boot time of the life that goes on; 0 if a new one begins."""
        return life_of(
            self.saved, self.recovery, policy=policy, machine=self.machine, together=together
        )

    def close(self) -> None:
        """Let others have it."""
        self.disk.close()
        os.close(self._lock_fd)


class Keeping:
    """The keeper of one node on its event loop."""

    def __init__(
        self,
        node: Node,
        folder: Folder,
        policy: str,
        now_us: Callable[[], int],
        write: Callable[[Any, bytes | None], None],
        abort: Callable[[Any], None],
    ) -> None:
        self.held_bytes = 0
        self._folder = folder
        self._now_us = now_us
        self._write = write
        self._abort = abort
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="disk")
        self._policy = policy
        self._syncs = self._sync_us = 0  # how many there were, and how long they took in all
        self._paused: dict[Any, None] = {}  # connections that are not read, until less is held
        self._keeper = Keeper(
            node,
            folder.recovery,
            folder.saved.meta,
            policy=cast("Policy", policy),
            machine=folder.machine,
            interval_us=INTERVAL_US,
        )
        begun = self._keeper.begin()
        if begun is not None:
            begun.run()
            self._keeper.log.end_sync(begun)

    def figures(self) -> dict[str, Any]:
        """Return what STATUS tells of the folder."""
        return {
            "sync": self._policy,
            "syncs": self._syncs,
            "sync_us": self._sync_us,
            "held_bytes": self.held_bytes,
            "damage": len(self._folder.recovery.damage),
        }

    @property
    def is_busy(self) -> bool:
        """Whether something that was said waits yet."""
        return self.held_bytes > 0

    @property
    def is_full(self) -> bool:
        """Whether so much is held that nobody should be read from."""
        return self.held_bytes > HELD_BYTES_MAX

    def say(self, whom: Any, what: bytes | None) -> None:
        """Send bytes when they may leave; None: close the connection then."""
        self.held_bytes += len(what or b"")
        self._keeper.say(whom, what)

    def end_turn(self) -> None:
        """A loop turn is over."""
        self._send(self._keeper.end_turn())

    def tick(self) -> None:
        """TICK_US went by."""
        self._keeper.tick()
        self._send([])

    def _send(self, said: list[Said]) -> None:
        """Write what may leave; let threads wait for what the disk is to do."""
        for whom, what in said:
            self.held_bytes -= len(what or b"")
            self._write(whom, what)
        keeper = self._keeper
        if keeper.aborts:
            aborts, keeper.aborts = keeper.aborts, []
            for whom in aborts:
                self._abort(whom)
            self.held_bytes = keeper.held_bytes
        if self._paused and self.held_bytes <= HELD_BYTES_MAX // 2:
            paused, self._paused = self._paused, {}
            for connection in paused:
                connection.resume_writing()
        while (work := keeper.take_work(self._now_us())) is not None:
            began_us = self._now_us()
            waiting = self._loop.run_in_executor(self._threads, work.run)
            waiting.add_done_callback(partial(self._done, work, began_us))

    def _done(self, work: Work, began_us: int, future: asyncio.Future[None]) -> None:
        self._syncs += 1
        self._sync_us += self._now_us() - began_us
        error = None
        if not future.cancelled() and (raised := future.exception()) is not None:
            error = DiskFailedError(str(raised))
        self._send(self._keeper.work_done(work, error))

    def pause(self, connection: Any) -> None:
        """Do not read from a connection until less is held."""
        self._paused[connection] = None
        connection.pause_writing()

    def close(self) -> None:
        """End: make durable what is not, and give the folder back."""
        self._threads.shutdown(wait=True)
        self._keeper.end_turn()
        with contextlib.suppress(DiskFailedError):
            self._keeper.log.sync_all()
        self._keeper.log.close()
        self._folder.close()
