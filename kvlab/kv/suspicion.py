"""Which members are taken for dead: out of everybody's reach for so long that others take their place.

It decides nothing about the map: whoever drives it (`membership`) asks. One node alone may be the one
that is cut off, so it must be a majority of the members that has not reached a member for that long;
they tell the driver, each for itself.

A node that is late itself hears its peers late, so it suspects them later: see LocalHealth.

Invariants:

1. Absence is counted in ticks of this process: a node that was stopped for a while has missed ticks,
   and must not call all others dead. Where the process is late, not every tick counts.
2. What a member said counts for a while only, and only while it can be reached itself.
3. Nobody is replaced while a range of theirs has no majority that could be copied from, nor while
   another member is away that may yet come back: it might be made an heir.
"""

from __future__ import annotations

from typing import Any

from kvlab.kv.link import Link
from kvlab.kv.state import State
from kvlab.ring.cluster_map import ClusterMap
from kvlab.wire.peer import FrameError

TELL_TICKS = 10  # from one report to the driver to the next
LATE_US = 100_000  # a tick as late as this, and the node is not well
SCORE_MAX = 8  # as in Lifeguard
FRESH_TICKS = 3 * TELL_TICKS  # so long a report counts


class LocalHealth:
    """How much a node doubts its own view, from how late its loop is: the local health multiplier.

    Of Lifeguard (Dadgar, Phillips and Currey, "Lifeguard: Local Health Awareness for More Accurate
    Failure Detection", 2018), with the loop's lag as the sign of trouble in place of missed replies.
    One of `score` + 1 ticks counts as silence of the peers, so times are longer by that factor. On the
    way up the score follows the lag at once, on the way down it falls by one a tick.
    """

    __slots__ = ("_skipped", "counts", "score")

    def __init__(self) -> None:
        self.score = 0  # 0: healthy, up to SCORE_MAX
        self.counts = True  # whether this tick counts as silence of who was not heard
        self._skipped = 0

    def tick(self, lag_us: int) -> None:
        """A tick came so late; the next question is what it means for others."""
        if lag_us >= LATE_US:
            self.score = min(SCORE_MAX, self.score + lag_us // LATE_US)
        elif self.score:
            self.score -= 1
        self.counts = self._skipped >= self.score
        self._skipped = 0 if self.counts else self._skipped + 1


class Suspicion:
    """What one node knows of who is away."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.health = LocalHealth()
        self._ticks = 0
        # By member's number, which is another in each life: ticks in a row without a link to it.
        self._absent: dict[int, int] = {}
        self._told: dict[str, tuple[int, dict[int, int]]] = {}  # reporter -> (when, who is absent)

    def tick(self, driver: str) -> None:
        """TICK_US went by: count, and tell the driver from time to time."""
        state = self.state
        current = state.map
        if current is None or not state.settings.dead_after_ticks:
            return
        self._ticks += 1
        self._absent = {
            one.number: self._absent.get(one.number, 0) + self.health.counts
            for one in current.members
            if one.id != state.settings.id and not state.is_current(one)
        }
        if self._ticks % TELL_TICKS or driver in ("", state.settings.id):
            return
        if self._absent:
            flat: list[Any] = [field for pair in self._absent.items() for field in pair]
            state.links[driver].controls.append(["absent", flat])

    def on_absent(self, link: Link, flat: list[Any]) -> None:
        """Take a report: [number, ticks, number, ticks, ...]. Raises FrameError if it is none."""
        if any(type(field) is not int for field in flat):
            raise FrameError(f"a malformed report of {link.id}")
        each = iter(flat)
        told = dict(zip(each, each, strict=True))
        self._told[link.id] = (self._ticks, told)

    def dead(self, current: ClusterMap) -> list[str]:
        """Return the members whose place others should take now."""
        limit = self.state.settings.dead_after_ticks
        if not limit:
            return []
        away = [one for one in current.members if one.number in self._absent]
        if not all(self._is_dead(current, one.number, limit) for one in away):
            return []
        present = {one.id for one in current.members if one not in away}
        for place in current.ranges:
            here = sum(1 for one in place.replicas if one in present)
            if 2 * here <= len(place.replicas):
                return []
        return [one.id for one in away if not one.leaving]

    def back(self, current: ClusterMap) -> list[str]:
        """Return the members that were taken for dead, and are back before others had their place."""
        return [one.id for one in current.members if one.dead and self.state.is_current(one)]

    def _is_dead(self, current: ClusterMap, number: int, limit: int) -> bool:
        if self._absent[number] < limit:
            return False
        witnesses = 1
        for member in current.members:
            when, told = self._told.get(member.id, (0, {}))
            fresh = self._ticks - when < FRESH_TICKS and self.state.is_current(member)
            # Who was told a moment later has counted a little less.
            witnesses += fresh and told.get(number, 0) + FRESH_TICKS >= limit
        return 2 * witnesses > len(current.members)
