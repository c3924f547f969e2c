"""A well-behaved client that works beside a hostile one and notices everything."""

from __future__ import annotations

import json
import threading
import time
from typing import Self

from .node_process import NodeProcess, Wire

STALL_SECONDS_MAX = 3.0  # beyond all noise of a busy machine


class Witness:
    """Writes and reads its own keys, one at a time, until it is left; then says what it saw."""

    def __init__(self, node: NodeProcess) -> None:
        self._port = node.port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.rounds = 0
        self.slowest_s = 0.0
        self.wrong: list[object] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if kind is None:
            assert self.wrong == []
            assert self.rounds >= 2
            assert self.slowest_s < STALL_SECONDS_MAX

    def _work(self) -> None:
        try:
            with Wire(self._port) as wire:
                while self.rounds < 2 or not self._over.is_set():
                    self._round(wire)
        except (OSError, AssertionError, ValueError) as error:
            self.wrong.append(error)

    def _round(self, wire: Wire) -> None:
        key, value = f"witness{self.rounds % 10}", f"value{self.rounds}"
        begun = time.monotonic()
        stored = wire.ask(type="SET", key=key, value=value)
        got = wire.ask(type="GET", key=key)
        self.slowest_s = max(self.slowest_s, (time.monotonic() - begun) / 2)
        if (stored["status"], got["value"]) != ("SUCCESS", value):
            self.wrong.append(json.dumps([stored, got]))
        self.rounds += 1
