"""How many of the things added so far lie above a rank: a tree of partial sums (Fenwick, 1994).

It knows nothing of histories.
"""

from __future__ import annotations


class Counts:
    """Counts of ranks from 0 to `size` - 1. Adding and asking take O(log size)."""

    def __init__(self, size: int) -> None:
        self._sums = [0] * (size + 1)
        self._total = 0

    def add(self, rank: int) -> None:
        """Count one more of this rank."""
        self._total += 1
        place = rank + 1
        while place < len(self._sums):
            self._sums[place] += 1
            place += place & -place

    def from_rank(self, rank: int) -> int:
        """Return how many have this rank or a greater one."""
        place, below = rank, 0
        while place > 0:
            below += self._sums[place]
            place &= place - 1
        return self._total - below
