"""What the member that drives changes of the map has been asked for, and the map that follows.

It does not know who drives, nor how a map becomes everybody's: that is `membership`.

Invariants:

1. A range is committed only when every newcomer of its present `next` reported, in this very life,
   to have the data, and stood in `next` ever since.
2. A change that cannot be is logged and left out; it holds up no other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from kvlab.errors import UsageError
from kvlab.kv.joining import Wish, grant
from kvlab.ring import change
from kvlab.ring.cluster_map import ClusterMap

ABORT_TICKS = 100  # a joiner that cannot be reached so long is given up


class Driver:
    """The wishes that wait for their change of the map."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._joins: dict[str, Wish] = {}  # by id
        self._leaves: dict[str, bool] = {}  # by id; True: it is taken for dead
        self._returns: set[str] = set()  # taken for dead, and back before others had its place
        self._ready: dict[tuple[int, str], int] = {}  # (range, member) -> its incarnation
        self._absent: dict[str, int] = {}  # joiner -> ticks without a link

    def ask_join(self, wish: Wish) -> None:
        """Take a node in with the next change."""
        self._joins[wish.id] = wish

    def ask_leave(self, member: str, *, dead: bool = False) -> None:
        """See a member out with the next change."""
        self._leaves.setdefault(member, dead)

    def ask_back(self, member: str) -> None:
        """Let a member that was taken for dead stay."""
        self._returns.add(member)

    def note_ready(
        self, current: ClusterMap, member: str, incarnation: int, ranges: list[int]
    ) -> None:
        """Keep that a member has the data of ranges that are moving to it."""
        if current.member(member) is not None:
            for index in ranges:
                if member in current.ranges[index].target:
                    self._ready[index, member] = incarnation

    def next_map(self, current: ClusterMap, reach: Collection[str]) -> ClusterMap:
        """Return the map after all that is due now, or `current` itself if nothing is.

        `reach` are the members that can be reached. Called once a tick.
        """
        new = current
        for name in list(self._joins):
            new = self._attempt(new, grant, self._joins.pop(name))
        for name, dead in sorted(self._leaves.items()):
            member = current.member(name)
            before = new
            if member is None and name in new.missing:
                new = self._attempt(new, change.forget, name)
            if member is not None and not member.leaving:
                new = self._attempt(new, partial(change.leave, dead=dead), name)
            if new is before:  # done, or refused; else kept until a map that says so is chosen
                del self._leaves[name]
        new = change.at_once(current, new)
        for name in sorted(self._returns):
            new = self._attempt(new, change.abort, name)
        self._returns.clear()
        if new is not current:
            self._forget_strangers(new)
        done = self._complete(new)
        if done:
            new = self._attempt(new, change.commit, done)
        for name in self._hopeless(new, reach):
            new = self._attempt(new, change.abort, name)
        return new

    def _attempt(
        self, current: ClusterMap, transition: Callable[[ClusterMap, Any], ClusterMap], what: Any
    ) -> ClusterMap:
        try:
            return transition(current, what)
        except (UsageError, ValueError) as error:
            self._log(f"a change of the map was refused: {error}")
            return current

    def _forget_strangers(self, current: ClusterMap) -> None:
        """Forget the reports of members to which a range moves no more: their data ages."""
        for index, member in list(self._ready):
            if member not in current.ranges[index].target:
                del self._ready[index, member]

    def _complete(self, current: ClusterMap) -> list[int]:
        """Return the moving ranges whose every newcomer reported to have the data."""
        done = []
        for index, place in enumerate(current.ranges):
            if place.next is None:
                continue
            newcomers = [current.member(one) for one in place.must_report]
            if all(
                one is not None and self._ready.get((index, one.id)) == one.incarnation
                for one in newcomers
            ):
                done.append(index)
        for index in done:
            for member in current.ranges[index].next or ():
                self._ready.pop((index, member), None)
        return done

    def _hopeless(self, current: ClusterMap, reach: Collection[str]) -> list[str]:
        """Return the joiners that hold nothing yet and were out of reach for too long."""
        holders = {one for place in current.ranges for one in place.replicas}
        gone = []
        for member in current.members:
            if member.id in holders or member.id in reach or member.incarnation == 1:
                self._absent.pop(member.id, None)
                continue
            self._absent[member.id] = self._absent.get(member.id, 0) + 1
            if self._absent[member.id] >= ABORT_TICKS:
                self._absent[member.id] = 0  # where it cannot be given up: not again at each tick
                gone.append(member.id)
        return gone
