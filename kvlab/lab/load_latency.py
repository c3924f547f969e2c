"""Records latencies for tens of nanoseconds each; the arithmetic comes later, in blocks.

It knows no percentile: see report/latency.

1. Recording appends to two arrays. `fold` adds them to counts per microsecond below a second, per
   millisecond above; it is called often enough (each tick) that the arrays stay short.
2. Memory is bounded: one counter per microsecond of the first second, and one per millisecond of
   the longest latency.
"""

from __future__ import annotations

from array import array

import numpy as np

from kvlab.lab.load_result import Latencies

FINE_US = 1_000_000  # below: one counter per microsecond
COARSE_US = 1_000  # above: latencies are rounded down to this
NS_PER_US = 1_000


class LatencyRecorder:
    """`add(latency_ns, how_many)` while running, `latencies()` at the end."""

    def __init__(self) -> None:
        self._ns = array("q")
        self._weights = array("q")
        self._fine = np.zeros(FINE_US, dtype=np.int64)
        self._coarse: dict[int, int] = {}
        # Bound methods: the hot path calls these two without another frame.
        self.append_ns = self._ns.append
        self.append_weight = self._weights.append

    def add(self, latency_ns: int, weight: int = 1) -> None:
        """Record `weight` operations that took `latency_ns` each."""
        self.append_ns(latency_ns)
        self.append_weight(weight)

    def fold(self) -> None:
        """Move what was recorded into the counters."""
        if not self._ns:
            return
        # Copies: an array that lends its memory cannot be emptied.
        us = np.array(self._ns, dtype=np.int64) // NS_PER_US
        weights = np.array(self._weights, dtype=np.int64)
        del self._ns[:]
        del self._weights[:]
        np.maximum(us, 0, out=us)
        slow = us >= FINE_US
        if slow.any():
            rounded = us[slow] // COARSE_US * COARSE_US
            for value, weight in zip(rounded.tolist(), weights[slow].tolist(), strict=True):
                self._coarse[value] = self._coarse.get(value, 0) + weight
            us, weights = us[~slow], weights[~slow]
        np.add.at(self._fine, us, weights)

    def latencies(self) -> Latencies:
        """Return everything recorded so far."""
        self.fold()
        fine = np.flatnonzero(self._fine)
        coarse = sorted(self._coarse)
        return Latencies(
            fine.tolist() + coarse,
            self._fine[fine].tolist() + [self._coarse[value] for value in coarse],
        )
