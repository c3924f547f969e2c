"""One accurate alarm for an event loop, and the clock that goes with it.

It is no scheduler: it wakes one callback at one absolute time, and the owner keeps the heap of
what is due. Event loops round their timers to whole milliseconds (libuv does); a timerfd fires
within tens of microseconds. Where the system has none, the loop's own timer serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Final

_CLOCK_MONOTONIC: Final = 1
_TFD_NONBLOCK_CLOEXEC: Final = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_TFD_TIMER_ABSTIME: Final = 1
_US_PER_S: Final = 1_000_000
_NS_PER_US: Final = 1_000


def now_us() -> int:
    """Read the monotonic clock in microseconds: the clock of every rule and alarm."""
    return time.monotonic_ns() // _NS_PER_US


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Alarm:
    """Calls `ring` once, at or after the time it is set to; setting it anew moves it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self._spec = _Itimerspec()
        self._libc, self._fd = _open_timerfd()
        if self._fd >= 0:
            loop.add_reader(self._fd, self._on_timerfd)

    @property
    def accurate(self) -> bool:
        """Say if the alarm is finer than the loop's own timers."""
        return self._fd >= 0

    def set(self, at_us: int) -> None:
        """Ring at `at_us` of `now_us()`; a time in the past rings as soon as possible."""
        if self._fd >= 0 and self._libc is not None:
            at_us = max(at_us, 1)  # zero would switch the timer off
            self._spec.value_s = at_us // _US_PER_S
            self._spec.value_ns = at_us % _US_PER_S * _NS_PER_US
            self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)
            return
        if self._handle is not None:
            self._handle.cancel()
        wait_s = max(0, at_us - now_us()) / _US_PER_S
        self._handle = self._loop.call_later(wait_s, self._ring)

    def close(self) -> None:
        """Never ring again."""
        if self._handle is not None:
            self._handle.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _on_timerfd(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it was set anew before we came to read it
            os.read(self._fd, 8)
        self._ring()


def _open_timerfd() -> tuple[ctypes.CDLL | None, int]:
    """Open a timerfd on the monotonic clock; -1 where there is none. Python has it from 3.13."""
    if sys.platform != "linux":
        return None, -1
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return libc, int(libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC))
    except (OSError, AttributeError):
        return None, -1
