"""Versions: a hybrid logical clock packed into one integer. No clock is read here.

A version orders all writes of a cluster (Kulkarni and others, "Logical Physical Clocks", 2014):
51 bits of microseconds since 2025, 12 bits of the writer's member number. The logical part is not
kept apart: a write in a microsecond that was used already takes the next one, so the clock may run
ahead of the wall by as many microseconds as there were such writes. A version fits into 63 bits, so
that msgpack carries it as one word, and microseconds keep two writes apart that follow each other
through different nodes of one machine.

Invariants:

1. `Clock.next` never returns the same or a smaller version twice, whatever the wall clock does.
2. No version is returned twice, by `next` or `above`, and two members never return the same one,
   because their numbers differ.
"""

from __future__ import annotations

EPOCH_US = 1_735_689_600_000_000  # 2025-01-01T00:00:00Z
NUMBER_BITS = 12
STEP = 1 << NUMBER_BITS
# A peer further ahead than this is not followed: one broken clock must not drag all others along.
SKEW_MAX_US = 500_000


class Clock:
    """The clock of one member; `number` is its member number in the cluster map."""

    __slots__ = ("_ahead", "_ahead_first", "last", "number", "refused")

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.last = 0  # without the number bits
        self.refused = 0  # observations that were too far ahead to follow
        # The first and last of the versions that were given above far-off ones; 0: none are.
        self._ahead_first = 0
        self._ahead = 0

    def next(self, now_us: int) -> int:
        """Return a version above all that were returned or observed before."""
        physical = (now_us - EPOCH_US) << NUMBER_BITS
        last = self.last + STEP
        last = max(last, physical)
        if self._ahead and last >= self._ahead_first:
            last = self._pass_by(last)
        self.last = last
        return last | self.number

    def reserve(self, count: int, now_us: int) -> int:
        """Return the first of `count` versions, each STEP above the one before it."""
        first = self.next(now_us)
        last = self.last + (count - 1) * STEP
        if self._ahead and last >= self._ahead_first:
            self.last = self._pass_by(last)
            return self.reserve(count, now_us)
        self.last = last
        return first

    def above(self, version: int, now_us: int) -> int:
        """Return a version above one that was met, however far ahead that is.

        The clock itself follows no further than SKEW_MAX_US: only what met a far-off version is
        written above it.
        """
        self.observe(version, now_us)
        following = self.next(now_us)
        if following > version:
            return following
        self._ahead = max(self._ahead, version >> NUMBER_BITS << NUMBER_BITS) + STEP
        self._ahead_first = self._ahead_first or self._ahead
        return self._ahead | self.number

    def _pass_by(self, last: int) -> int:
        """Return where to go on, now that the clock has come to what was given ahead of it."""
        last = max(last, self._ahead + STEP)
        self._ahead = self._ahead_first = 0
        return last

    def pass_over(self, version: int) -> None:
        """Return no version up to this one any more, which is of the past."""
        self.last = max(self.last, version // STEP * STEP)

    def observe(self, version: int, now_us: int) -> None:
        """Take note of a version made elsewhere, so that later ones here are above it."""
        if version <= self.last:
            return
        if (version >> NUMBER_BITS) - (now_us - EPOCH_US) > SKEW_MAX_US:
            self.refused += 1
            return
        self.last = (version >> NUMBER_BITS) << NUMBER_BITS


def microseconds(version: int) -> int:
    """Return the Unix time in microseconds at which a version was made, by its writer's clock."""
    return (version >> NUMBER_BITS) + EPOCH_US
