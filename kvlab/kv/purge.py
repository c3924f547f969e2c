"""Tombstones that nobody needs any more are erased, of one range after the other. No I/O, no clock.

A tombstone may go when no older copy of its key can come back. Time alone does not tell (copies wait
behind cuts, on disks that are away, in hints), so it is asked for, as of a version of a while ago, the
*watermark*: first every member has promised to begin no write up to it, and has none under way; then
every owner of the range holds the same up to it, and nobody else holds anything of the range. Then the
owners erase, and take nothing so old of an absent key any more (`Table.purged`): so a late copy,
wherever it comes from, brings nothing back. A member that cannot be reached delays a purge, and so does
one that was replaced as dead and may come back with what it alone took; what is not purged costs room,
never data.

An owner that missed a purge takes the watermark over when it compares the range with one that did not
(`transfer`), and erases what that one does not hold: it was equal to it up to the watermark, and what
came late since was never acknowledged by it.

The messages, as controls of the peer frames:

    ["hush", version]                         purger -> all: begin no write up to it
    ["quiet", version]                        member -> purger: none up to it is or will be under way
    ["cut", id, epoch, range, version]        purger -> all: what is held of the range, up to that?
    ["counted", id, digest]                   member -> purger; 0: nothing; None: ask another time
    ["purge", epoch, range, version, digest]  purger -> owners: erase, if this is still what is held

The purger of a range is the first of its owners, by id. Registers are not purged: one that is absent
remembers the requests that changed it.

Invariants:

1. What an owner with watermark T does not hold of the range, up to T, has no acknowledged write behind
   it that is not deleted or overwritten.
2. One range is under way per purger, and little is looked through per tick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvlab.kv.link import Link
from kvlab.kv.quorum import Quorum
from kvlab.kv.state import State
from kvlab.kv.version import EPOCH_US, STEP
from kvlab.storage.memory import Table, spread
from kvlab.wire.peer import READ
from kvlab.wire.value import live

PROMISE_US = 2_000_000  # what was promised serves for so long
PATIENCE_TICKS = 30  # an answer that did not come by then will not
TICK_RECORDS = 5_000  # about so many records are looked through per tick


@dataclass(slots=True)
class Round:
    """One range whose members are asked."""

    epoch: int
    index: int
    version: int
    digest: int  # of what is held here
    waits_for: set[str]
    ticks: int = 0


class Purge:
    """Both sides of one node: what it asks for as purger, and what it answers."""

    def __init__(self, state: State, quorum: Quorum) -> None:
        self.state = state
        self._quorum = quorum
        self._quiet: dict[str, int] = {}  # by member, as it told in its present connection
        self._round: Round | None = None
        self._id = 0
        self._index = 0  # where the next look begins
        self._pause_ticks = 0

    def tick(self) -> None:
        """TICK_US went by: look for what can be purged, give up what was not answered."""
        if self.state.map is None or not self.state.serving:
            return
        if self._round is not None:
            self._round.ticks += 1
            if self._round.ticks > PATIENCE_TICKS or self._round.epoch != self.state.epoch:
                self._round = None
        self._pause_ticks -= 1
        if self._round is None and self._pause_ticks < 0:
            self._look()

    def on_link_down(self, link: Link) -> None:
        """What a peer promised ends with its life, and that may have ended."""
        self._quiet.pop(link.id, None)
        self._round = None

    # -- the purger -----------------------------------------------------------------------------

    def _look(self) -> None:
        """Begin with the next range that has tombstones and whose purger this node is."""
        state = self.state
        assert state.map is not None
        me, members = state.settings.id, state.map.members
        if state.refusal or state.map.missing:
            return
        if any(one.id != me and not state.is_current(one) for one in members):
            return
        # The number of nobody: no write has this very version.
        version = (state.now_us - state.settings.purge_after_us - EPOCH_US) * STEP - 1
        promised = min(self._quiet.get(one.id, 0) for one in members)
        is_promised = promised > version - PROMISE_US * STEP
        if is_promised:
            version = (min(version, promised) + 1) // STEP * STEP - 1
        places, table = state.map.ranges, state.table
        for index in (*range(self._index, len(places)), *range(self._index)):
            place = places[index]
            if len(table.ranges[index]) == table.keys[index] or version <= table.purged[index]:
                continue
            if place.next is None and min(place.replicas) == me:
                self._pause_ticks = len(table.ranges[index]) // TICK_RECORDS
                digest, erasable = cut(table, index, version, state.now_us)
                self._index = index + 1
                if erasable and is_promised:
                    self._ask(index, version, digest)
                elif erasable:
                    self._index = index  # once all have promised
                    self._hush(version)
                return

    def _hush(self, version: int) -> None:
        """Ask every member to begin no write up to a version."""
        self._quiet[self.state.settings.id] = self._be_quiet(version)
        for link in self.state.up.values():
            link.controls.append(["hush", version])

    def _ask(self, index: int, version: int, digest: int) -> None:
        state = self.state
        assert state.map is not None
        others = {one.id for one in state.map.members} - {state.settings.id}
        self._id += 1
        self._round = Round(state.epoch, index, version, digest, others)
        for one in sorted(others):
            state.links[one].controls.append(["cut", self._id, state.epoch, index, version])
        if not others:
            self._finish(self._round)

    def on_counted(self, link: Link, one: int, digest: Any) -> None:
        """A member says what it holds."""
        asked, state = self._round, self.state
        if asked is None or one != self._id or asked.epoch != state.epoch or state.map is None:
            return
        is_owner = link.id in state.map.ranges[asked.index].replicas
        if digest is None or digest != (asked.digest if is_owner else 0):
            self._round = None  # another time
            return
        asked.waits_for.discard(link.id)
        if not asked.waits_for:
            self._finish(asked)

    def _finish(self, asked: Round) -> None:
        state = self.state
        assert state.map is not None
        self._round = None
        told = [asked.epoch, asked.index, asked.version, asked.digest]
        for owner in state.map.ranges[asked.index].replicas:
            if owner != state.settings.id:
                state.links[owner].controls.append(["purge", *told])
        self.on_purge(*told)

    # -- the members ----------------------------------------------------------------------------

    def on_cut(self, link: Link, one: int, epoch: int, index: int, version: int) -> None:
        """Say what is held of a range up to a version."""
        state = self.state
        digest: int | None = None
        if epoch == state.epoch and state.serving:
            if state.holds(index):
                digest, _ = cut(state.table, index, version, state.now_us)
            elif not state.table.ranges[index]:
                digest = 0
        link.controls.append(["counted", one, digest])

    def _be_quiet(self, version: int) -> int:
        """Begin no write up to a version; return up to which none is under way either."""
        self.state.clock.pass_over(version)
        versions = [version]
        for group in self._quorum.groups():
            each = zip(group.ops[1::3], group.ops[2::3], strict=True)
            versions += [version - 1 for version, value in each if value is not READ]
        return min(versions)

    def on_hush(self, link: Link, version: int) -> None:
        """A purger asks for a promise."""
        if self.state.is_past(version):  # else its clock is far ahead
            link.controls.append(["quiet", self._be_quiet(version)])

    def on_quiet(self, link: Link, version: int) -> None:
        """A peer promises that no write up to a version is or will be under way there."""
        self._quiet[link.id] = version

    def on_purge(self, epoch: int, index: int, version: int, digest: int) -> None:
        """Erase the tombstones of a range up to a version, if all is as it was when it was asked."""
        state = self.state
        if epoch != state.epoch or not state.holds(index) or not state.serving or state.refusal:
            return
        if not state.is_past(version):
            return
        held, erasable = cut(state.table, index, version, state.now_us)
        if held == digest and version > state.table.purged[index]:
            state.counters["purged"] += state.table.purge(index, version, erasable)


def cut(table: Table, index: int, version: int, now_us: int) -> tuple[int, list[bytes]]:
    """Return what stands for the records of a range up to a version, and the keys of tombstones there.

    An expired value is a tombstone; the digest differs where not all replicas find it expired yet.
    """
    digest, erasable = 0, []
    for key, (held, value, _) in table.ranges[index].items():
        if held > version:
            continue
        if live(value, now_us) is None:
            erasable.append(key)
            digest ^= spread(~held)
        else:
            digest ^= spread(held)
    return digest, erasable
