"""Arrival processes of an open loop: when each operation is meant to be sent.

They do not wait or send: they only say times, whatever the server does meanwhile, which is what
makes latencies from these times free of coordinated omission.
"""

from __future__ import annotations

from typing import Literal

from kvlab.errors import UsageError
from kvlab.rng import Rng

Shape = Literal["poisson", "constant"]
SHAPES: tuple[Shape, ...] = ("poisson", "constant")
US_PER_S = 1_000_000


class Arrivals:
    """Intended times in microseconds from the start, ascending, at `rate` per second in all.

    With several workers each takes a fair part: independent Poisson streams add up to one, and
    constant streams interleave.
    """

    def __init__(
        self, rate: float, rng: Rng, *, shape: Shape = "poisson", worker: int = 0, workers: int = 1
    ) -> None:
        if not rate > 0:
            raise UsageError(f"an open loop needs a rate above 0/s, not {rate:g}/s")
        if shape not in SHAPES:
            raise UsageError(f"arrivals are {' or '.join(SHAPES)}, not {shape!r}")
        self._gap_us = US_PER_S * workers / rate
        self._poisson = shape == "poisson"
        self._draw = rng.expovariate
        self._count = 0
        self._offset_us = US_PER_S * worker / rate
        self._at_us = 0.0

    def next_us(self) -> int:
        """Return the next intended time."""
        if self._poisson:
            self._at_us += self._draw(1.0) * self._gap_us
            return int(self._at_us)
        at_us = self._offset_us + self._count * self._gap_us
        self._count += 1
        return int(at_us)
