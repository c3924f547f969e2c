"""Ranges on their way: a node pulls what moves to it, and catches up after a lost link. No I/O.

A newcomer of a range pulls it in full from one replica, then compares it with the others: by leaves
(see `leaves`), then by lists of (key, version) in those that differ. What it lacks it fetches. Copying
from one replica alone would lose writes that were acknowledged by the two others (reference: the fence
and the fenced majority of `membership`).

What the donor does is in `donation`, with the messages that both send; what is held of ranges that
moved away goes by `handoff`.

Invariants:

1. A range counts as ready when a majority of its replicas was compared, and nobody who can be reached
   is left out.
2. One chunk per pull is under way at a time, PULLS_MAX pulls at once: memory stays bounded.
3. A register that this node has promised not to take is settled by a round of its own before the range
   counts as ready (`Linear.touch`): a majority may have accepted it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from kvlab.kv.donation import EVENTUAL, LINEAR, Donations, lacks, registers_of
from kvlab.kv.handoff import Handoff
from kvlab.kv.leaves import leaves_of
from kvlab.kv.linear import Linear
from kvlab.kv.link import Link
from kvlab.kv.movement import Movement, Pull, names, stage
from kvlab.kv.state import State
from kvlab.ring.cluster_map import ClusterMap
from kvlab.wire.peer import FrameError, is_version, records_of

PULLS_MAX = 8  # at once, per puller
MOVES_MAX = 20_000  # remembered movements


class Transfers:
    """All pulls of one node, and what it still holds of ranges that moved away."""

    def __init__(self, state: State, linear: Linear) -> None:
        self.state = state
        self.donations = Donations(state)
        self.handoff = Handoff(state)
        self._linear = linear
        self.moves: deque[dict[str, Any]] = deque(maxlen=MOVES_MAX)
        self._pulls: dict[int, Pull] = {}  # by range
        self._asked: dict[int, Pull] = {}  # by id of the question under way
        self._catch_up: deque[tuple[int, str]] = deque()
        self._ready: set[int] = set()
        self._doomed: set[int] = set()  # ranges that moved away and whose registers are held
        self._id = 0

    @property
    def moving(self) -> int:
        """How many ranges are still on their way here."""
        return sum(1 for pull in self._pulls.values() if not pull.catch_up)

    @property
    def comparing(self) -> int:
        """How many ranges are being compared with a peer that holds them too."""
        return sum(1 for pull in self._pulls.values() if pull.catch_up) + len(self._catch_up)

    @property
    def ready(self) -> list[int]:
        """Return the ranges that were pulled and are not yet this node's by the map."""
        return sorted(self._ready)

    @property
    def giving(self) -> int:
        """How many ranges are held, wholly or in part, that are not this node's."""
        return len(self._doomed.union(self.handoff.held))

    def why_busy(self) -> str:
        """Say what is still to be moved, compared or dropped, or return ""."""
        for number, what in (
            (len(self._pulls), "ranges to pull or compare"),
            (len(self._catch_up), "ranges to compare"),
            (len(self.donations), "ranges to give"),
            (len(self._ready), "ranges that nobody has committed"),
            (self.giving, "ranges of others"),
        ):
            if number:
                return f"has {number} {what}"
        return ""

    def movements(self) -> Iterator[Movement]:
        """Yield what is under way here, in the order of the phases."""
        state = self.state
        current = state.map
        if current is None:
            return
        for pull in self._pulls.values():
            yield Movement(pull.index, *stage(state, pull))
        for index in self.ready:
            others = [one for one in current.ranges[index].must_report if one != state.settings.id]
            why = f"the map, once {names(others)} have it too" if others else "the map"
            yield Movement(index, "ready", waits_for=why)
        for index in sorted(self._doomed):
            late = self._unaware(current, index)
            yield Movement(index, "giving", waits_for=f"{names(late)} to serve it" if late else "")

    # -- the puller -----------------------------------------------------------------------------

    def on_map(self, old: ClusterMap | None, new: ClusterMap) -> None:
        """Begin the pulls that a new map asks for, and forget those that it ended."""
        me = self.state.settings.id
        for index, place in enumerate(new.ranges):
            if me in place.must_report:
                self._doomed.discard(index)  # what went away comes back
                pull = self._pulls.get(index)
                others = [one for one in place.replicas if one != me]
                if pull is not None and not pull.catch_up:
                    pull.sources = others
                elif index not in self._ready:
                    self._pulls[index] = Pull(index, new.epoch, others, filled=me in place.replicas)
                continue
            self._ready.discard(index)
            pull = self._pulls.get(index)
            if pull is not None and not pull.catch_up:
                del self._pulls[index]
            held = me in place.replicas
            if held:
                self._doomed.discard(index)
            elif (
                me in old.ranges[index].writers
                if old is not None
                else self.state.registers.ranges[index]
            ):
                self._doomed.add(index)
        self._forget_replaced()

    def _forget_replaced(self) -> None:
        """Leave the answers to questions of pulls that others have taken the place of."""
        self._asked = {
            one: pull for one, pull in self._asked.items() if self._pulls.get(pull.index) is pull
        }

    def on_link_up(self, link: Link, *, was_known: bool) -> None:
        """Compare again with whoever may have been written to past this node.

        While there was no link, the peer could not send its writes here: what is moving here must be
        compared again, and what both hold must be if the link is not the first.
        """
        current = self.state.map
        if current is None:
            return
        me = self.state.settings.id
        for index in self._ready:
            others = [one for one in current.ranges[index].replicas if one != me]
            self._pulls[index] = Pull(index, current.epoch, others, filled=True)
        self._ready.clear()
        self._forget_replaced()
        for pull in self._pulls.values():
            if not pull.catch_up:
                pull.done.clear()
        if was_known:
            for index, place in enumerate(current.ranges):
                if me in place.replicas and link.id in place.replicas:
                    self._catch_up.append((index, link.id))

    def compare(self, index: int, peer: str) -> bool:
        """Fetch what a peer has newer in a range that both hold; False if that is under way."""
        if index in self._pulls or (index, peer) in self._catch_up:
            return False
        self._catch_up.append((index, peer))
        return True

    def on_link_down(self, link: Link) -> None:
        """Give up what was under way with a peer."""
        for one, pull in list(self._asked.items()):
            if pull.source == link.id:
                del self._asked[one]
                pull.source = ""
                if pull.catch_up:
                    del self._pulls[pull.index]
        self._catch_up = deque(item for item in self._catch_up if item[1] != link.id)
        self.donations.on_link_down(link)

    def advance(self) -> None:
        """Ask for what can be asked for now."""
        current = self.state.map
        if current is None or self.state.refusal:
            return
        for pull in list(self._pulls.values()):
            if len(self._asked) >= PULLS_MAX:
                return
            if not pull.source:
                self._ask(pull)
        for _ in range(len(self._catch_up)):
            if len(self._asked) >= PULLS_MAX:
                return
            index, peer = self._catch_up.popleft()
            if index in self._pulls:  # with another peer: this one has its turn after that
                self._catch_up.append((index, peer))
            elif peer in self.state.up and peer in current.ranges[index].replicas:
                pull = Pull(index, current.epoch, [peer], catch_up=True)
                self._pulls[index] = pull
                self._ask(pull)

    def _ask(self, pull: Pull) -> None:
        """Turn to the next source that can be reached, or see that all is done."""
        left = [one for one in pull.sources if one not in pull.done]
        up = [one for one in left if one in self.state.up]
        if not up and not self._is_blocked(pull):
            compared = len(pull.sources) - len(left)
            if pull.catch_up or compared * 2 > len(pull.sources):
                self._complete(pull)
        if not up:
            return
        pull.source = up[0]
        pull.mode = "list" if pull.filled or pull.catch_up else "full"
        leaves = None
        if pull.mode == "list":
            leaves = b"" if pull.whole else leaves_of(self.state, pull.index)
        pull.listed.clear()
        pull.keys = pull.size = 0
        pull.left = -1
        self._id += 1
        self._asked[self._id] = pull
        self.state.links[pull.source].controls.append(
            ["pull", self._id, pull.index, pull.epoch, leaves]
        )

    def _is_blocked(self, pull: Pull) -> bool:
        """Whether some register that must be here is not; have a round of its own for each."""
        registers = self.state.registers
        pull.blocked = {
            key: ballot
            for key, ballot in pull.blocked.items()
            if registers.get(pull.index, key).ballot < ballot
        }
        for key in pull.blocked:
            self._linear.touch(key)
        return bool(pull.blocked) and not pull.catch_up

    def _complete(self, pull: Pull) -> None:
        del self._pulls[pull.index]
        if not pull.catch_up:
            self._ready.add(pull.index)
            self.state.counters["moved_ranges"] += 1

    def on_chunk(
        self,
        link: Link,
        one: int,
        ns: int,
        records: list[Any],
        now_us: int,
        *,
        more: bool,
        left: int,
        purged: int,
    ) -> None:
        """Take records of a namespace, or a list of versions, for the question `one`."""
        pull = self._asked.get(one)
        if pull is None or pull.source != link.id:
            return
        pull.more, pull.left, pull.purged = more, left, purged
        if ns == EVENTUAL and (pull.whole or pull.mode == "full"):
            pull.listed.update(records[:: 3 if pull.mode == "full" else 2])
        if pull.mode == "full":
            self._store(pull, ns, records)
            self._next(link, one, pull, now_us)
            return
        each = iter(records)
        pull.wanted = []
        for key, version in zip(each, each, strict=True):
            if type(key) is not bytes or not is_version(version):
                raise FrameError(f"a malformed list of {link.id}")
            if lacks(self.state, ns, pull.index, key, version):
                pull.wanted.append(key)
        self._fetch(link, one, ns, pull, now_us)

    def on_records(
        self, link: Link, one: int, ns: int, records: list[Any], count: int, now_us: int
    ) -> None:
        """Take the records that were fetched for the question `one`."""
        pull = self._asked.get(one)
        if pull is not None and pull.source == link.id:
            self._store(pull, ns, records)
            del pull.wanted[: max(count, 1)]
            self._fetch(link, one, ns, pull, now_us)

    def _fetch(self, link: Link, one: int, ns: int, pull: Pull, now_us: int) -> None:
        if pull.wanted:
            link.controls.append(["fetch", one, pull.index, ns, pull.wanted])
        else:
            self._next(link, one, pull, now_us)

    def _store(self, pull: Pull, ns: int, records: list[Any]) -> None:
        if ns == LINEAR:
            self._store_registers(pull, records)
        else:
            for key, version, value in records_of(records):
                if self.state.table.put(pull.index, key, version, value):
                    pull.keys += value is not None
                    pull.size += len(key) + len(value or b"")
        if pull.catch_up:
            self.state.counters["catch_up_records"] += len(records) // 3

    def _store_registers(self, pull: Pull, records: list[Any]) -> None:
        votes = self.state.holds(pull.index)
        for key, register in registers_of(records):
            if not self._linear.acceptor.take_copy(pull.index, key, register, votes=votes):
                pull.blocked[key] = register.ballot
            elif register.value is not None:
                pull.keys += 1
                pull.size += len(key) + len(register.value)

    def _next(self, link: Link, one: int, pull: Pull, now_us: int) -> None:
        if pull.more:
            link.controls.append(["more", one])
            return
        del self._asked[one]
        if not self._take_watermark(pull):
            pull.whole, pull.source = True, ""
            self._ask(pull)
            return
        if not pull.catch_up:
            counters = self.state.counters
            counters["moved_keys"] += pull.keys
            counters["moved_bytes"] += pull.size
        if not pull.catch_up and (pull.keys or pull.mode == "full"):
            self.moves.append(
                {
                    "epoch": pull.epoch,
                    "range": pull.index,
                    "from": pull.source,
                    "to": self.state.settings.id,
                    "keys": pull.keys,
                    "bytes": pull.size,
                    "at_us": now_us,
                }
            )
        pull.done.add(pull.source)
        pull.filled, pull.whole = True, False
        pull.source = ""
        self._ask(pull)
        self.advance()

    def _take_watermark(self, pull: Pull) -> bool:
        """Take over what the source has purged; False if it must tell all that it holds for that.

        All that it holds is here by now. What it does not hold, and is not newer than its watermark, it
        has purged, or nobody was ever told that it was written: see `purge`.
        """
        table = self.state.table
        if pull.purged <= table.purged[pull.index] or not self.state.is_past(pull.purged):
            return True
        if not pull.whole and pull.mode != "full":
            return False
        held, listed = table.ranges[pull.index].items(), pull.listed
        gone = [key for key, one in held if one[0] <= pull.purged and key not in listed]
        table.purge(pull.index, pull.purged, gone)
        return True

    def on_wait(self, one: int) -> None:
        """The donor's map is older than ours: ask again on a later tick."""
        pull = self._asked.pop(one, None)
        if pull is not None:
            if pull.catch_up:
                del self._pulls[pull.index]
                self._catch_up.append((pull.index, pull.source))
            pull.source = ""

    # -- what moved away ------------------------------------------------------------------------

    def drop_moved(self) -> None:
        """Forget the registers that moved away, once all who hold them now know that they do."""
        state = self.state
        current = state.map
        if current is None or not self._doomed:
            return
        for index in sorted(self._doomed):
            if not self._unaware(current, index):
                state.registers.drop(index)
                self._doomed.discard(index)

    def _unaware(self, current: ClusterMap, index: int) -> list[str]:
        """Return the holders of a range that are not known to know that it is theirs."""
        state = self.state
        return [
            one
            for one in current.ranges[index].replicas
            if one not in state.up or state.links[one].epoch < state.fence[index]
        ]
