"""One connection through a real shim, with this process at both ends and its own clock on both.

It measures; what was asked for and whether it was met is `links`. Arrivals are stamped by the kernel,
so that a reader that wakes up late does not count.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from kvlab.fault.link import LinkRule
from kvlab.lab.events import EventLog
from kvlab.lab.netfaults import NetFaults
from kvlab.lab.shims import Shims
from kvlab.spec import LinkSpec

HERE, THERE = "a", "b"
NODES = (HERE, THERE)
WAIT_S = 30.0
READ_BYTES = 1 << 18
NOBODY = ("127.0.0.1", 1)
EXTRA_BYTES = 64
SO_TIMESTAMPNS = 35  # Linux; the socket module does not name it
NAP_S = 0.002
MESSAGE_BYTES = 16  # the number and the time of sending, 8 bytes each


class Receiver(threading.Thread):
    """Reads a socket to its end and notes when what came: (wall time in ns, bytes so far)."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(daemon=True)
        self.socket = sock
        self.arrivals: list[tuple[int, int]] = []
        self.data = bytearray()
        self.total = 0
        self.broken = ""
        self.start()

    def run(self) -> None:
        """Read until the end."""
        try:
            while True:
                block, extras, _, _ = self.socket.recvmsg(READ_BYTES, EXTRA_BYTES)
                if not block:
                    return
                self.total += len(block)
                self.arrivals.append((_stamp(extras), self.total))
                if self.total <= READ_BYTES:  # messages, not bulk
                    self.data += block
        except OSError as error:
            self.broken = type(error).__name__

    def wait(self, total: int, seconds: float = WAIT_S) -> None:
        """Wait for so many bytes. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while self.total < total:
            if time.monotonic() > deadline or not self.is_alive():
                raise TimeoutError(f"{self.total} of {total} bytes came in {seconds:g} s")
            time.sleep(0.001)


def _stamp(extras: list[tuple[int, int, bytes]]) -> int:
    """Return when the kernel got the last of what was read, in ns; now where it does not say."""
    for level, kind, data in extras:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("qq", data)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()


class Lateness(threading.Thread):
    """How late this machine wakes up who only sleeps, meanwhile: what no shim can do better."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.late_ms: list[float] = []
        self._over = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self.join()

    def run(self) -> None:
        """Sleep again and again."""
        while not self._over or not self.late_ms:
            began = time.monotonic()
            time.sleep(NAP_S)
            self.late_ms.append((time.monotonic() - began - NAP_S) * 1000)


class Wire:
    """The shim process, and node b behind it. Use it in `with`."""

    def __init__(self, folder: Path) -> None:
        self._runner = asyncio.Runner()
        self._shims = Shims(seed=1)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._events = EventLog(folder / "events.jsonl")
        self._faults = NetFaults(self._shims, LinkSpec(), self._events)
        self._address = ("", 0)

    def __enter__(self) -> Self:
        self._runner.run(self._begin())
        return self

    async def _begin(self) -> None:
        await self._shims.start()
        await self._shims.add(HERE, NOBODY)
        self._address = await self._shims.add(THERE, self._listener.getsockname()[:2])
        await self._shims.set_pid(HERE, os.getpid())

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._shims.close())
        self._runner.close()
        self._listener.close()
        self._events.close()

    def dial(self) -> tuple[socket.socket, Receiver]:
        """Connect a to b; return the caller's end, and a reader of the other."""
        near = socket.create_connection(self._address, timeout=WAIT_S)
        self._listener.settimeout(WAIT_S)
        far, _ = self._listener.accept()
        for sock in (near, far):
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        return near, Receiver(far)

    def rule(self, rule: LinkRule) -> None:
        """Put a rule on the link from a to b, in place of what it has."""
        self._runner.run(self._shims.replace_rule([(HERE, THERE)], rule))

    def partition(self, mode: str) -> int:
        """Cut a from b as the verb does; return the wall time (ns) at which it had returned."""
        self._runner.run(
            self._faults.partition(
                NODES, groups=[[HERE], [THERE]], sources=None, targets=None, mode=mode
            )
        )
        return time.time_ns()

    def heal(self) -> None:
        """Undo everything."""
        self._runner.run(self._faults.heal(NODES))

    # -- measurements ---------------------------------------------------------------------------

    def delays_ms(self, rule: LinkRule, count: int, gap_s: float) -> list[float]:
        """Return how long each of `count` messages took, sent so far apart."""
        self.rule(rule)
        near, receiver = self.dial()
        with near, receiver.socket:
            _send(near, range(count), gap_s)
            receiver.wait(count * MESSAGE_BYTES)
        self.rule(LinkRule())
        return [(at - sent) / 1e6 for at, sent in _stamps(receiver)]

    def rate_bps(self, rule: LinkRule, size: int) -> float:
        """Return the bytes per second at which a stream of `size` bytes came, once it flowed."""
        self.rule(rule)
        near, receiver = self.dial()
        with near, receiver.socket:
            sender = threading.Thread(target=near.sendall, args=(bytes(size),), daemon=True)
            sender.start()
            receiver.wait(size, WAIT_S + 2 * size / (rule.bandwidth_bps or size))
            sender.join()
        self.rule(LinkRule())
        (began, first), *_, (ended, total) = receiver.arrivals
        return (total - first) / ((ended - began) / 1e9)


def _send(sock: socket.socket, numbers: Sequence[int], gap_s: float) -> None:
    due = time.monotonic()
    for number in numbers:
        if (left := due - time.monotonic()) > 0:
            time.sleep(left)
        due += gap_s
        sock.sendall(number.to_bytes(8) + time.time_ns().to_bytes(8))


def _stamps(receiver: Receiver) -> list[tuple[int, int]]:
    """Return (arrived, sent) of each message, in ns."""
    found, place = [], 0
    for at, total in receiver.arrivals:
        while place + MESSAGE_BYTES <= total:
            found.append((at, int.from_bytes(receiver.data[place + 8 : place + 16])))
            place += MESSAGE_BYTES
    return found


class Stream(threading.Thread):
    """Sends a message every so often until it is told to stop, or the connection breaks."""

    def __init__(self, sock: socket.socket, gap_s: float) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self.broken = ""
        self._socket = sock
        self._gap_s = gap_s
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        """Send."""
        try:
            while not self._over.wait(self._gap_s):
                _send(self._socket, [self.sent], 0)
                self.sent += 1
        except OSError as error:
            self.broken = type(error).__name__

    def stop(self) -> int:
        """Send no more; return how many messages were sent."""
        self._over.set()
        self.join()
        return self.sent
