"""Groups from their first operation to their last answer. No placement decisions, no I/O, no clock.

`add` puts an operation into the open group of its route, `seal` (once per loop turn) hands the groups
to the links, `answered`, `lost` and `expire` end them, and batches whose last operation ended appear
on `finished`.

Invariants:

1. Every operation of a batch that was added ends exactly once, and each ends a bounded time after
   it was added.
2. A group is sealed under the map that routed it; a change of the map routes it again.
3. A write that was sent and did not get its quorum ends as UNKNOWN, never as a definite error.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterator
from typing import Any

from kvlab.kv.answer import Batch
from kvlab.kv.atomic import second_rounds
from kvlab.kv.group import Group, Route
from kvlab.kv.link import Link
from kvlab.kv.repair import repair
from kvlab.kv.state import State
from kvlab.ring.slot import slot_of
from kvlab.wire.peer import DELETE, READ, REFUSED, STALE, FrameError, encode_raw, is_version
from kvlab.wire.value import live, stored

FOLLOWUP_US = 500_000  # the time a delete's second round gets beyond the first
RETRIES_MAX = 3  # how often a group is routed again after a replica knew a newer map: the hop limit
HEAVY_VALUE_BYTES = 64 * 1024  # smaller values are not counted: a turn brings few megabytes of them
HEAVY_GROUP_BYTES = 8 * 1024 * 1024  # a group of large values ends here, so that frames stay small
OPEN_GROUPS_MAX = 20_000  # beyond it clients are told BUSY
_SAID_TYPES = (str, bytes, bool, list, type(None))


class Quorum:
    """All groups of one node."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.finished: list[Batch] = []  # drained by the shell
        self.open: dict[int, Group] = {}  # sealed, and not yet answered by everybody asked
        self._turn: list[Group] = []  # being filled
        self._explicit: dict[tuple[int, int, int, bool, bool], Group] = {}  # of this turn
        self.retry: list[Group] = []  # refused by a replica whose map is newer than ours
        self._gid = 0
        self.now_us = 0  # of the last frame or tick: never ahead of time

    @property
    def is_full(self) -> bool:
        """Whether clients must be told to come back later."""
        return len(self.open) >= OPEN_GROUPS_MAX

    @property
    def has_turn(self) -> bool:
        """Whether `seal` has something to do."""
        return bool(self._turn)

    # -- filling --------------------------------------------------------------------------------

    def group(self, route: Route, deadline_us: int) -> Group:
        """Return the open group of this turn at the default level."""
        group = route.group
        if group is None or group.heavy_bytes > HEAVY_GROUP_BYTES:
            # Reads and writes share a group, so that a pipeline keeps its order at the replicas.
            group = route.group = self._new(route, max(route.r, route.w), deadline_us, strict=False)
        return group

    def explicit(
        self,
        route: Route,
        need: int,
        deadline_us: int,
        *,
        strict: bool = True,
        atomic: bool = False,
    ) -> Group:
        """Return the open group of this turn for an explicit level (`strict`) or time-out."""
        key = (id(route), need, deadline_us // 1000, strict, atomic)
        group = self._explicit.get(key)
        if group is None:
            group = self._explicit[key] = self._new(route, need, deadline_us, strict=strict)
            if atomic:
                group.insist()
        return group

    def _new(self, route: Route, need: int, deadline_us: int, *, strict: bool) -> Group:
        self._gid += 1
        me = self.state.settings.id
        route = route.owners if strict else route
        group = Group(self._gid, route, need=need, strict=strict, me=me, deadline_us=deadline_us)
        self._turn.append(group)
        return group

    def add(
        self, group: Group, batch: Batch, index: int, key: bytes, version: int, value: Any
    ) -> None:
        """Add one operation: apply it here if this node is a replica, and queue it for the others.

        `value` is text or bytes to write, None for a tombstone, READ or DELETE; `index` is the place
        of its reply in the batch. For a READ the version is filled in here.
        """
        table = self.state.table
        place = (slot_of(key) if 123 in key else crc_hqx(key, 0) & 16383) >> self.state.shift
        if value is READ:
            record = table.ranges[place].get(key) if group.route.local else None
            if record is not None:
                version = record[0]
            batch.answer(index, key.decode(), None if record is None else record[1])
        elif not group.route.local:
            pass
        elif value is DELETE:
            record = table.ranges[place].get(key)
            gone = record is None or live(record[1], self.now_us) is None
            if record is None or (gone and record[0] != version):
                group.missing = group.missing or {}
                group.missing[len(group.owners)] = 1
            elif not table.put(place, key, version, None) and record[0] > version:
                group.overtake(len(group.owners), record[0])
        elif not table.put(place, key, version, value):
            held = table.floor(place, key)
            if held > version:
                group.overtake(len(group.owners), held)
        is_told = value is not None and value is not READ and value is not DELETE
        if is_told and len(value) > HEAVY_VALUE_BYTES:
            group.heavy_bytes += len(value)
        group.ops += (key, version, value)
        group.owners.append((batch, index))

    def seal(self) -> None:
        """Hand this turn's groups to the links of their routes."""
        turn, self._turn = self._turn, []
        self._explicit.clear()
        for group in turn:
            route = group.route
            if route.group is group:
                route.group = None
            links = [link for link in route.links if link.up]
            group.waiting = len(links)
            if links:
                self.open[group.gid] = group
                raw = encode_raw([group.gid, group.ops])
                for link in links:
                    link.groups.append(raw)
                    link.outstanding.append(group)
                if group.enough:
                    self._finish(group)
            elif group.enough:
                self._finish(group)
            else:
                self._settle(group)

    # -- answers --------------------------------------------------------------------------------

    def answered(self, link: Link, ack: int, exceptions: list[Any]) -> None:
        """Count a peer's acknowledgement of all groups up to `ack`, with what differed."""
        refused = self._note(link, exceptions) if exceptions else ()
        outstanding = link.outstanding
        while outstanding and outstanding[0].gid <= ack:
            group = outstanding.popleft()
            if group.nacked:
                self._drop(group, applied=group.gid not in refused)
            elif group.gid in refused:
                group.waiting -= 1  # nothing happened there
            elif group.count(link.id):
                self._finish(group)
            if group.waiting == 0:
                self._close(group)

    def _note(self, link: Link, exceptions: list[Any]) -> list[int]:
        """Keep what a peer said; return the groups that it refused."""
        refused = []
        each = iter(exceptions)
        for gid, index, version, value in zip(each, each, each, each, strict=True):
            if type(index) is not int or not is_version(version) or type(value) not in _SAID_TYPES:
                raise FrameError(f"a malformed exception of {link.id}")
            told = stored(value) if type(value) is list else value
            group = self.open.get(gid)
            if group is None:
                continue
            if index == STALE:
                group.nacked = max(group.nacked, version)
                refused.append(gid)
            elif index == REFUSED:
                refused.append(gid)
            elif not 0 <= index < len(group.owners):
                raise FrameError(f"an exception of {link.id} for an operation that was not sent")
            else:
                self.state.counters["conflicts"] += group.done and group.is_write(index)
                group.note(index, link.id, version, told)
        return refused

    def _drop(self, group: Group, *, applied: bool) -> None:
        """Take an answer that does not count, as some replica knows a newer map."""
        group.waiting -= 1
        group.lost |= applied
        if not group.done and group not in self.retry:
            self.retry.append(group)

    def lost(self, link: Link) -> None:
        """Give up on what a peer still owes, after its link went down."""
        outstanding = list(link.outstanding)
        link.outstanding.clear()
        for group in outstanding:
            group.waiting -= 1
            group.lost = True
            if group.waiting == 0:
                self._close(group)

    def expire(self, now_us: int) -> None:
        """End every group whose deadline has passed. Called on each tick of the node."""
        for group in list(self.open.values()):
            if not group.done and group.deadline_us <= now_us:
                self._settle(group)

    def under_way(self) -> Iterator[Batch]:
        """Yield every batch whose replies have not all left for its connection; some twice."""
        yield from (batch for group in self.groups() for batch, _ in group.owners)
        yield from self.finished

    def groups(self) -> Iterator[Group]:
        """Yield every group that somebody may still answer or be asked."""
        yield from self.open.values()
        yield from self._turn
        yield from self.retry

    def _close(self, group: Group) -> None:
        """End a group that nobody will answer any more; let its reads repair what they saw."""
        self.open.pop(group.gid, None)
        if group in self.retry:
            return
        if not group.done:
            self._settle(group)
        if group.seen:
            repair(self.state, group)

    # -- ends -----------------------------------------------------------------------------------

    def _settle(self, group: Group) -> None:
        """End a group without its quorum: degraded where that is allowed, else with an error."""
        if group.is_held and not group.strict:
            group.degraded = True
            self._finish(group)
        else:
            self._fail(group)

    def _fail(self, group: Group) -> None:
        """End a group with errors: its reads changed nothing, its writes may have happened."""
        group.done = True
        self.state.counters["quorum_failures"] += 1
        read = "not enough replicas answered; nothing was changed"
        write = "not enough replicas confirmed the write in time"
        for number, (batch, index) in enumerate(group.owners):
            is_read = group.reads or group.ops[3 * number + 2] is READ
            code, error = ("UNAVAILABLE", read) if is_read else ("UNKNOWN", write)
            batch.fail(index, group.ops[3 * number].decode(), code, error)
            self.end(batch)

    def _finish(self, group: Group) -> None:
        """End a group with success: its quorum answered, or degraded with what there is."""
        group.done = True
        if group.found:
            group.answer_found()
        if group.missing is not None:
            self._take_missing(group)
        if not group.vouched:
            group.disown()
        if group.overtaken is not None and not group.reissue:
            self._reissue(group)
        if group.atomic and not group.reissue:
            second_rounds(self, group)
        if group.degraded:
            self.state.counters["degraded"] += len(group.owners)
            self.state.counters["hinted"] += len(group.owners) * bool(group.route.stand_ins)
            group.tell_degraded()
        if group.metas is not None:
            group.tell_metas()
        finished = self.finished
        for batch, _ in group.owners:
            batch.pending -= 1
            if not batch.pending:
                finished.append(batch)

    def _take_missing(self, group: Group) -> None:
        """Judge the deletes that some replica knew nothing of.

        Where no replica held a value there was nothing to delete, and nothing was changed. Where too
        few did, the tombstone must still reach a write quorum, or a late copy could come back. While
        the range moves that is any of them: who has nothing may be about to get the old value.
        """
        assert group.missing is not None
        for number, count in group.missing.items():
            batch, index = group.owners[number]
            if group.overtaken and number in group.overtaken and not group.reissue:
                continue  # somebody held a newer value: the second round above it decides
            if count >= group.answers:
                key = group.ops[3 * number].decode()
                if group.waiting or group.lost:
                    # Who was asked and is not heard may hold a value, and has deleted it then.
                    batch.fail(index, key, "UNKNOWN", "not all replicas said whether there is one")
                else:
                    batch.answer(index, key, None)
            elif group.answers - count < group.need or group.route.coming is not None:
                key, version = group.ops[3 * number : 3 * number + 2]
                self.write_again(group, number, version, None)

    def _reissue(self, group: Group) -> None:
        """Write once more, above the newer versions that were met.

        A client that wrote through a fast clock and then through a slow one would otherwise lose its
        second write in silence. The write is still under way, so it may be ordered last.
        """
        assert group.overtaken is not None
        clock, now_us = self.state.clock, self.now_us
        for number, version in group.overtaken.items():
            self.state.counters.update(("conflicts", "reissued_writes"))
            value = group.ops[3 * number + 2]
            value = None if value is DELETE else value  # which has met a live value
            again = self.write_again(group, number, clock.above(version, now_us), value)
            if again is not None:
                again.reissue = True

    def write_again(self, group: Group, number: int, version: int, value: Any) -> Group | None:
        """Begin the second round of an operation, by the present map; None if there is no route.

        The first may have been answered by an older map, whose replicas need not be those of today.
        """
        batch, index = group.owners[number]
        key = group.ops[3 * number]
        if not self.state.routes:
            batch.fail(index, key.decode(), "UNKNOWN", "this node left before all had confirmed")
            return None
        route = self.state.routes[self.state.range_of(key)]
        again = self._second(group, route, group.deadline_us + FOLLOWUP_US)
        batch.pending += 1  # the operation ends with the second group
        group.carry_meta(number, again)
        self.add(again, batch, index, key, version, value)
        return again

    def _second(self, group: Group, route: Route, deadline_us: int) -> Group:
        """Return a new group that goes on with what another has begun."""
        need = group.need if group.strict else max(route.r, route.w)
        again = self._new(route, need, deadline_us, strict=group.strict)
        if group.atomic:
            again.insist()
        again.reissue, again.reads = group.reissue, group.reads
        return again

    def end(self, batch: Batch) -> None:
        """One operation of a batch has ended."""
        batch.pending -= 1
        if not batch.pending:
            self.finished.append(batch)

    # -- a newer map ----------------------------------------------------------------------------

    def reroute(self, now_us: int) -> None:
        """Route again by the present map what an older one routed and no quorum has confirmed."""
        turn, self._turn = self._turn, []
        self._explicit.clear()
        for group in turn:
            group.route.group = None
        retry, self.retry = self.retry, []
        for group in turn + retry:
            if group.done:
                continue
            late = group.tries >= RETRIES_MAX or group.deadline_us <= now_us
            if late or not self.state.routes:
                # Whoever acknowledged did so by an old map, and may hold the range no more.
                self._fail(group)
            else:
                self._again(group)

    def _again(self, group: Group) -> None:
        """Give every operation of a group to the routes of the present map."""
        group.done = True
        ops = group.ops
        for number, (batch, index) in enumerate(group.owners):
            key, version, value = ops[3 * number : 3 * number + 3]
            route = self.state.routes[self.state.range_of(key)]
            if group.reissue:  # a second round stays one, or what was replaced could come back
                again = self._second(group, route, group.deadline_us)
            elif group.strict:
                again = self.explicit(route, group.need, group.deadline_us, atomic=group.atomic)
            else:
                again = self.group(route, group.deadline_us)
            again.tries = group.tries + bool(group.nacked)
            if value is DELETE:
                missing = group.missing.get(number, 0) if group.missing else 0
                if missing < group.answers:  # somebody held a value, and has deleted it
                    value = None
                # Else: who has not said that there is none may have deleted it.
                again.lost |= group.lost or group.waiting > 0
            group.carry_meta(number, again)
            if number in group.then:
                again.then[len(again.owners)] = group.then[number]
            self.add(again, batch, index, key, 0 if value is READ else version, value)
