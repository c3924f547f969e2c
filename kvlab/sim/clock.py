"""Virtual time: things that will happen, in order. It never sleeps and reads no clock.

Invariants:

1. Time never goes backwards, and only `step` moves it.
2. Of two things due at the same microsecond the one that was asked for first happens first.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Timer:
    """Something that will happen; `cancel` prevents it."""

    __slots__ = ("arguments", "call")

    def __init__(self, call: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.call: Callable[..., object] | None = call
        self.arguments = arguments

    def cancel(self) -> None:
        """Let it not happen. Fine at any time, also twice or afterwards."""
        self.call = None


class Clock:
    """The time of a simulated world, in microseconds since its beginning."""

    def __init__(self) -> None:
        self.now_us = 0
        self.steps = 0  # things that happened so far
        self._due: list[tuple[int, int, Timer]] = []
        self._count = 0

    def at(self, at_us: int, call: Callable[..., object], *arguments: Any) -> Timer:
        """Let something happen at a time; at once (but not before this returns) if that is past."""
        timer = Timer(call, arguments)
        self._count += 1
        at_us = max(at_us, self.now_us)
        heappush(self._due, (at_us, self._count, timer))
        return timer

    def after(self, delay_us: int, call: Callable[..., object], *arguments: Any) -> Timer:
        """Let something happen a while from now."""
        return self.at(self.now_us + delay_us, call, *arguments)

    def step(self, until_us: int) -> bool:
        """Let the next thing happen, if it is due by `until_us`; else let time reach that."""
        return self._pass(until_us, 1) > 0

    def run(self, until_us: int) -> None:
        """Let everything happen that is due by `until_us`."""
        self._pass(until_us, -1)

    def _pass(self, until_us: int, most: int) -> int:
        """Let at most so many things happen (-1: all that are due), and return how many did."""
        due, done = self._due, 0
        while done != most:
            if not due or due[0][0] > until_us:
                self.now_us = max(self.now_us, until_us)
                break
            at_us, _, timer = heappop(due)
            call = timer.call
            if call is not None:
                self.now_us = at_us
                self.steps += 1
                done += 1
                timer.call = None
                call(*timer.arguments)
        return done
