"""Versions: a hybrid logical clock packed into one integer. No clock is read here.

A version orders all writes of a cluster (Kulkarni and others, "Logical Physical Clocks", 2014):
41 bits of milliseconds since 2025, 11 bits of counter, 12 bits of the writer's member number. It
fits into 64 bits, so that msgpack carries it as one word.

Invariants:

1. `Clock.next` never returns the same or a smaller version twice, whatever the wall clock does.
2. Two members never return the same version, because their numbers differ.
3. A counter that overflows runs into the milliseconds: the clock is then ahead, never stuck.
"""

from __future__ import annotations

EPOCH_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z
NUMBER_BITS = 12
COUNTER_BITS = 11
STEP = 1 << NUMBER_BITS
NUMBER_MAX = STEP - 1
_MS_SHIFT = NUMBER_BITS + COUNTER_BITS
# A peer further ahead than this is not followed: one broken clock must not drag all others along.
SKEW_MAX_MS = 500


class Clock:
    """The clock of one member; `number` is its member number in the cluster map."""

    __slots__ = ("last", "number", "refused")

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.last = 0  # without the number bits
        self.refused = 0  # observations that were too far ahead to follow

    def next(self, now_us: int) -> int:
        """Return a version above all that were returned or observed before."""
        physical = (now_us // 1000 - EPOCH_MS) << _MS_SHIFT
        last = self.last + STEP
        last = max(last, physical)
        self.last = last
        return last | self.number

    def observe(self, version: int, now_us: int) -> None:
        """Take note of a version made elsewhere, so that later ones here are above it."""
        if version <= self.last:
            return
        if (version >> _MS_SHIFT) - (now_us // 1000 - EPOCH_MS) > SKEW_MAX_MS:
            self.refused += 1
            return
        self.last = (version >> NUMBER_BITS) << NUMBER_BITS


def milliseconds(version: int) -> int:
    """Return the Unix time in milliseconds at which a version was made, by its writer's clock."""
    return (version >> _MS_SHIFT) + EPOCH_MS
