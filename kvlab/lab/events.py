"""The diary of a cluster: `events.jsonl`, one JSON object a line. It judges nothing.

A line is written with one append, so lines of a crash are whole or absent; nothing is synced, for
the diary explains a run and is not a record that anything relies on.
"""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path

import msgspec

# How many events stay in memory for the one who asks why a node is down.
RECENT_EVENTS = 256


class Event(msgspec.Struct, frozen=True):
    """Something that happened at wall-clock time `at_us`; `node` is empty for the whole cluster."""

    at_us: int
    kind: str
    node: str
    detail: str


class EventLog:
    """Appends events to a file and remembers the newest."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.recent: deque[Event] = deque(maxlen=RECENT_EVENTS)

    def add(self, kind: str, node: str = "", detail: str = "") -> None:
        """Note that `kind` happened now."""
        event = Event(time.time_ns() // 1000, kind, node, detail)
        self.recent.append(event)
        os.write(self._fd, msgspec.json.encode(event) + b"\n")

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
