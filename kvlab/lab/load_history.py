"""The history of a load run: one clock and one numbering for preload, load and final reads.

It judges nothing. Events go to a file through a buffer, or stay in memory.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from kvlab.history import Event, History, Recorder, load

NS_PER_US = 1_000


class HistoryLog:
    """Where load writes events. Close it, or use it in `with`, so that the buffer is written.

    Times are microseconds since the log was opened, by a clock that all processes of the machine
    share and that never goes back.
    """

    def __init__(self, path: Path | None = None, *, epoch_ns: int | None = None) -> None:
        self.epoch_ns = time.monotonic_ns() if epoch_ns is None else epoch_ns
        self.path = path
        self._blocks: list[bytes] = []
        self._file = None if path is None else path.open("wb")
        sink = self._blocks.append if self._file is None else self._file.write
        self._recorder = Recorder(sink)
        self.keys: dict[str, None] = {}  # every key that somebody tried to write, in order

    @property
    def count(self) -> int:
        """Events written so far."""
        return self._recorder.count

    def add(self, event: Event) -> None:
        """Write one event."""
        if event.f != "get":
            self.keys[event.key] = None
        self._recorder.add(event)

    def now_us(self) -> int:
        """Microseconds since the log was opened."""
        return (time.monotonic_ns() - self.epoch_ns) // NS_PER_US

    def flush(self) -> None:
        """Hand everything to the file."""
        self._recorder.flush()
        if self._file is not None:
            self._file.flush()

    def history(self) -> History:
        """Return the operations recorded so far. Raises SpecError if they contradict each other."""
        self.flush()
        data = b"".join(self._blocks) if self.path is None else self.path.read_bytes()
        return load(data, name=str(self.path or "history"))

    def close(self) -> None:
        """Write the rest and close the file; more than once is fine."""
        self._recorder.flush()
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def merge(self, parts: Iterable[Path]) -> None:
        """Append the events of several workers' files in the order of time.

        Events of one microsecond: invocations first, so that no order is claimed that real time
        does not decide.
        """
        for event in heapq.merge(*(_events(part) for part in parts), key=_order):
            self.add(event)


def _order(event: Event) -> tuple[int, bool]:
    return event.t_us, event.type != "invoke"


def _events(path: Path) -> Iterator[Event]:
    """Read one worker's file, one instant at a time, in the order of `_order`."""
    decode = msgspec.json.Decoder(Event).decode
    with path.open("rb") as lines:
        instant: list[Event] = []
        for line in lines:
            event = decode(line)
            if instant and event.t_us != instant[0].t_us:
                yield from sorted(instant, key=_order)
                instant = []
            instant.append(event)
        yield from sorted(instant, key=_order)
