"""What a node says waits here until what it rests on is kept. Pure steps: no thread, no clock.

The owner of a node's log: at the end of every loop turn it appends what the node wants remembered, and
holds back all that the node said in that turn, replies and frames to peers alike, until the log is as
durable as the policy asks. Nobody hears of a write, a vote or a copied range that a crash could take
back, and one sync serves all that waited for it (group commit).

    always     held until the disk has it: survives a power cut
    interval   held until the system has it, synced every so often: survives the end of the process
    os         held until the system has it, which writes it when it likes

A shell tells what is said (`say`), ends each turn (`end_turn`), runs what `take_work` returns (`run`
blocks: in a worker thread) and gives it back to `work_done`. It writes what these calls return, in
order, and resets the connections in `aborts`.

Invariants:

1. What was said leaves in the order in which it was said, or its connection is reset.
2. Nothing that was said after an entry leaves before that entry is kept; where it cannot be kept, what
   was said in that turn never leaves, and the node refuses writes until it can be.
3. One sync of the log and one step of a snapshot are under way at most.
4. After a sync that failed nothing is kept any more: the node refuses writes until it is started again.
5. What may never be kept is not served: see `State.doubtful`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from kvlab.kv.node import Node
from kvlab.kv.version import NUMBER_BITS
from kvlab.storage.disk import DiskError, DiskFailedError
from kvlab.storage.journal import META, PROMISE, PURGE, RECORDS, REGISTER, Entry, Journal, Saved
from kvlab.storage.log import Snapshot, Sync
from kvlab.storage.recovery import Recovery

Policy = Literal["always", "interval", "os"]
Said = tuple[Any, bytes | None]  # whom, and what; None: the connection is to be closed after that

# Versions up to so far ahead are reserved at once, so that a life that goes on after a restart gives
# none twice, whatever its clock shows then. No longer than it takes to start: a clock that is ahead of
# the others' wins, behind a cut, over what they write later.
CLOCK_AHEAD = 50_000 << NUMBER_BITS
SLICE_BYTES = 2 * 1024 * 1024  # of a snapshot per tick: the loop goes on between
FRAME_RECORDS = 4096
PAUSE_TICKS = 100
SNAPSHOT_AT_ONCE = 1 << 62


@dataclass(slots=True)
class Work:
    """A wait for the disk; `run` blocks."""

    sync: Sync
    is_snapshot: bool

    def run(self) -> None:
        """Wait. Raise DiskFailedError."""
        self.sync.run()


def life_of(
    saved: Saved, recovery: Recovery, *, policy: Policy, machine: str, together: bool = False
) -> int:
    """Return the boot time of the life that goes on with what was saved; 0: a new one must begin.

    A new one must where something that was said may be gone: by damage, or because the machine went
    down (`machine` names one time of its being up) and the disk had not been waited for. And where
    that life was no member yet: it may have learned that an earlier one had been, and not kept that.

    `together`: all members are on one machine. When that goes down each of them loses its last
    moments, and nobody is left who could refill the others; so all go on with what the disk has.
    """
    if not saved.meta.get("map", [False])[0]:
        return 0
    if recovery.damage:
        return 0
    if policy != "always" and saved.meta.get("machine") != machine and not together:
        return 0
    return int(saved.meta.get("life", 0))


class Keeper:
    """The log of one node, and what waits for it."""

    def __init__(
        self,
        node: Node,
        recovery: Recovery,
        meta: dict[str, Any],
        *,
        policy: Policy,
        machine: str,
        interval_us: int = 0,
    ) -> None:
        journal = node.state.table.journal
        assert journal is not None
        self.aborts: list[Any] = []  # whose connections must be reset
        self.log = recovery.log
        if recovery.damage:  # what can be read is written anew, whole
            self.log.bytes_since_snapshot = SNAPSHOT_AT_ONCE
        if meta.get("machine") != machine:
            node.state.remember("machine", machine)
        self._node = node
        self._journal: Journal = journal
        self._meta = dict(meta)  # all named values
        self._policy = policy
        self._interval_us = interval_us
        self._synced_us = 0  # when the last sync began
        self._turn: list[Said] = []
        self._waiting: deque[tuple[int, list[Said]]] = deque()  # (position, what was said)
        self._unsaved: list[Entry] = []  # that the disk had no room for
        self._unsynced: deque[tuple[int, list[Entry]]] = deque()  # (position, what it is behind of)
        self._clock = int(meta.get("clock", 0))
        self._snapshot: Snapshot | None = None
        self._slices: Iterator[list[Entry]] | None = None
        self._next_step: Callable[[], Sync] | None = None  # of the snapshot, for a worker
        self._snapshot_busy = False
        self._pause_ticks = 0  # before the next attempt, after one that failed

    # -- turns ----------------------------------------------------------------------------------

    def say(self, whom: Any, what: bytes | None) -> None:
        """Something is said in this turn; None: after it the connection is to be closed."""
        if what != b"":
            self._turn.append((whom, what))

    @property
    def held_bytes(self) -> int:
        """Return how much of what was said has not left. Walks through all of it."""
        turns = (self._turn, *(said for _, said in self._waiting))
        return sum(len(what or b"") for said in turns for _, what in said)

    @property
    def has_turn(self) -> bool:
        """Whether `end_turn` has something to do."""
        return bool(self._turn or self._journal)

    def begin(self) -> Sync | None:
        """Return what must be waited for before this life says anything: that it began."""
        self.end_turn()
        return self.log.begin_sync()

    def end_turn(self) -> list[Said]:
        """Append what the turn left; return what may leave now."""
        state = self._node.state
        if self.log.failed is not None:
            self._journal.take()  # nothing is kept any more; this process only reads
        elif self._journal or (state.clock.last > self._clock and not state.refusal):
            try:
                self._append()
            except DiskError as error:
                self._refuse(error)
        if self._policy == "os":
            self.log.let_go()
        turn, self._turn = self._turn, []
        if self._policy == "always" and not self.log.is_synced and self.log.failed is None:
            if turn:
                self._waiting.append((self.log.position, turn))
            return []
        return turn

    def _append(self) -> None:
        clock = self._node.state.clock.last
        if clock > self._clock:
            self._clock = clock + CLOCK_AHEAD
            self._journal.meta("clock", self._clock)
        entries = self._journal.take()
        self._meta.update((entry[1], entry[2]) for entry in entries if entry[0] == META)
        self._unsaved += entries
        self.log.append(self._unsaved)
        if self._policy == "always":
            self._unsynced.append((self.log.position, self._unsaved))
        self._unsaved = []
        self._node.state.doubtful = frozenset()
        self._node.state.refuse("")

    def _refuse(self, error: DiskError) -> None:
        """Say nothing of this turn, and take no writes until there is room again."""
        self._node.state.refuse(error.message)
        self._doubt()
        if self.log.failed is not None:
            self._cut_waiting()

    def _doubt(self) -> None:
        """Let nobody hear of what may never be kept, now or later: a restart could take it back."""
        entries = [entry for _, each in self._unsynced for entry in each] + self._unsaved
        keys = [key for kind, flat, *_ in entries if kind == RECORDS for key in flat[::3]]
        self._node.state.doubtful = frozenset(keys)
        # A reply that is not made yet may count this node's copy, whoever else is asked.
        self._node.linear.give_up()
        conns = [batch.conn.conn for batch in self._node.quorum.under_way() if batch.conn]
        self.aborts += dict.fromkeys(conn for conn in conns if conn is not None)
        self._cut(self._turn)

    def _cut_waiting(self) -> None:
        """Nothing that waits for the disk will ever leave."""
        for _, said in self._waiting:
            self._cut(said)
        self._waiting.clear()

    def _cut(self, said: list[Said]) -> None:
        self.aborts += dict.fromkeys(whom for whom, _ in said)
        said.clear()

    # -- what takes time ------------------------------------------------------------------------

    def tick(self) -> None:
        """TICK_US went by: go on with a snapshot, try again what had no room."""
        if self.log.failed is not None:
            return
        if self._unsaved:
            try:
                self._append()
            except DiskError as error:
                self._node.state.refuse(error.message)
                return
        self._go_on()

    def take_work(self, now_us: int) -> Work | None:
        """Return what the disk is to be waited for, if there is something; ask until there is not."""
        if self._next_step is not None and not self._snapshot_busy:
            step, self._next_step = self._next_step, None
            try:
                sync = step()
            except DiskError as error:
                self._give_up(error)
            else:
                self._snapshot_busy = True
                return Work(sync, is_snapshot=True)
        if self.log.failed is not None or self._policy == "os":
            return None
        if self._policy == "interval" and now_us - self._synced_us < self._interval_us:
            return None
        begun = self.log.begin_sync()
        if begun is None:
            return None
        self._synced_us = now_us
        return Work(begun, is_snapshot=False)

    def work_done(self, work: Work, error: DiskFailedError | None = None) -> list[Said]:
        """The disk has done what was waited for, or failed; return what may leave now."""
        if work.is_snapshot:
            self._snapshot_done(error)
            return []
        self.log.end_sync(work.sync, error)
        if error is not None:
            self._node.state.refuse(f"{error.message}; it must be started again")
            self._doubt()
            self._cut_waiting()
            return []
        while self._unsynced and self._unsynced[0][0] <= self.log.synced:
            self._unsynced.popleft()
        ready: list[Said] = []
        while self._waiting and self._waiting[0][0] <= self.log.synced:
            ready += self._waiting.popleft()[1]
        return ready

    # -- snapshots ------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Begin a snapshot when it is time, or write a slice of it."""
        if self._snapshot is None:
            self._pause_ticks -= 1
            if self.log.wants_snapshot and self._pause_ticks < 0:
                self._begin()
            return
        if self._slices is None:
            return
        until = self._snapshot.bytes + SLICE_BYTES
        try:
            for entries in self._slices:
                self._snapshot.append(entries)
                if self._snapshot.bytes >= until:
                    return
        except DiskError as error:
            self._give_up(error)
            return
        self._slices = None
        self._next_step = self._snapshot.seal

    def _begin(self) -> None:
        try:
            self._snapshot = self.log.begin_snapshot()
        except DiskError as error:
            self._node.state.log(f"no snapshot: {error.message}")
            self._pause_ticks = PAUSE_TICKS
            return
        self._slices = self._all_entries()

    def _all_entries(self) -> Iterator[list[Entry]]:
        """Yield everything that is remembered now, in pieces."""
        yield [[META, name, value] for name, value in self._meta.items()]
        state = self._node.state
        for index in range(len(state.table.ranges)):
            keys = state.table.snapshot(index)
            for at in range(0, len(keys), FRAME_RECORDS):
                flat: list[Any] = []
                for key in keys[at : at + FRAME_RECORDS]:
                    record = state.table.get(index, key)
                    if record is not None:
                        flat += (key, record[0], record[1])
                if flat:
                    yield [[RECORDS, flat]]
            if state.table.purged[index]:  # behind the records, or those as old would not be taken
                yield [[PURGE, index, state.table.purged[index], []]]
            yield from self._registers(index)

    def _registers(self, index: int) -> Iterator[list[Entry]]:
        """Yield what a range holds of the linear namespace."""
        registers = self._node.state.registers
        for key in registers.snapshot(index):
            yield [[REGISTER, key, *registers.get(index, key)]]
        for key in list(registers.promises[index]):
            promised = registers.promises[index].get(key)
            if promised is not None:
                yield [[PROMISE, key, promised]]

    def _snapshot_done(self, error: DiskFailedError | None) -> None:
        """A step of the snapshot has come to its end: take the next."""
        self._snapshot_busy = False
        snapshot = self._snapshot
        if snapshot is None:
            return
        if error is not None:
            self._give_up(error)
        elif snapshot.is_published:
            self.log.snapshot_bytes = snapshot.bytes
            self._snapshot = None
            try:
                snapshot.clean()
            except DiskError as failure:
                self._node.state.log(f"old files of the log stay: {failure.message}")
        else:
            self._next_step = snapshot.publish

    def _give_up(self, error: DiskError) -> None:
        """End a snapshot that cannot be written; the log goes on without it."""
        assert self._snapshot is not None
        self._node.state.log(f"a snapshot was given up: {error.message}")
        self._snapshot.abandon()
        self._snapshot = self._slices = self._next_step = None
        self._pause_ticks = PAUSE_TICKS
