"""lg in Python, for machines without a C compiler: the same arguments, the same line of JSON.

It is slower than lg, so servers look more alike than they are; the table says which was used.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from array import array
from functools import partial
from typing import cast

from kvbench.ask import command
from kvlab.lab.load_loop import run_fresh

WAIT = command("WAIT", 1, 1000)
SUCCESS = b'"status":"SUCCESS"'


class Run:
    """What all connections share."""

    def __init__(
        self, *, protocol: str, operation: str, pipeline: int, keys: int, size: int
    ) -> None:
        self.is_json = protocol == "json"
        self.pipeline = pipeline
        self.latencies_ns = array("q")
        self.errors = self.open = 0
        self.deadline_ns = 0
        self.done = asyncio.Event()
        order = list(range(keys))
        random.Random(1).shuffle(order)
        one = [self._encode(operation, key, "v" * size) for key in order]
        tail = WAIT if operation == "setbatchwait" else b""
        step = range(0, keys - pipeline + 1, pipeline)
        self.batches = [b"".join(one[at : at + pipeline]) + tail for at in step]
        # Replies are told by their newlines: a RESP value has two, all else one.
        per_op = 2 if operation == "setwait" or (operation == "get" and not self.is_json) else 1
        self.newlines = pipeline * per_op + (operation == "setbatchwait")

    def _encode(self, operation: str, number: int, value: str) -> bytes:
        key = f"key:{number:08d}"
        if self.is_json:
            verb = operation.removesuffix("linear")
            document = {"type": verb.upper(), "key": key}
            if verb == "set":
                document["value"] = value
            if verb != operation:
                document["ns"] = "linear"
            return json.dumps(document, separators=(",", ":")).encode() + b"\n"
        if operation == "get":
            return command("GET", key)
        return command("SET", key, value) + (WAIT if operation == "setwait" else b"")


class Connection(asyncio.Protocol):
    """Sends a batch, waits for all its replies, sends the next."""

    transport: asyncio.Transport

    def __init__(self, run: Run, at: int) -> None:
        self._run = run
        self._at = at
        self._missing = 0
        self._sent_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self) -> None:
        """Send the next batch."""
        run = self._run
        self._missing = run.newlines
        self._at = (self._at + 1) % len(run.batches)
        self._sent_ns = time.monotonic_ns()
        self.transport.write(run.batches[self._at])

    def data_received(self, data: bytes) -> None:
        run = self._run
        self._missing -= data.count(b"\n")
        bad = b'"status":"ERROR"' if run.is_json else b"-ERR"
        run.errors += bad in data
        if self._missing > 0:
            return
        now_ns = time.monotonic_ns()
        run.latencies_ns.append(now_ns - self._sent_ns)
        if now_ns < run.deadline_ns:
            self.send()
            return
        run.open -= 1
        if not run.open:
            run.done.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        if self._missing > 0:
            self._run.errors += 1
            self._run.done.set()


async def drive(run: Run, seconds: float, count: int, addresses: list[str]) -> dict[str, float]:
    """Connect, run, and return what lg prints."""
    loop = asyncio.get_running_loop()
    connections = []
    for number in range(count):
        host, _, port = addresses[number % len(addresses)].rpartition(":")
        start = number * len(run.batches) // count
        _, protocol = await loop.create_connection(partial(Connection, run, start), host, int(port))
        connections.append(protocol)
    run.open = count
    cpu_s, begin_ns = time.process_time(), time.monotonic_ns()
    run.deadline_ns = begin_ns + round(seconds * 1e9)
    for connection in connections:
        connection.send()
    await run.done.wait()
    elapsed_s = (time.monotonic_ns() - begin_ns) / 1e9
    cpu_s = time.process_time() - cpu_s
    ordered = sorted(run.latencies_ns)
    return {
        "ops": len(ordered) * run.pipeline,
        "seconds": elapsed_s,
        "errors": run.errors,
        "p50_us": ordered[len(ordered) // 2] / 1e3,
        "p99_us": ordered[int(len(ordered) * 0.99)] / 1e3,
        "cpu_s": cpu_s,
    }


def main(argv: list[str]) -> None:
    """Run with the arguments of lg."""
    protocol, operation, seconds, count, pipeline, keys, size, *addresses = argv

    async def work() -> dict[str, float]:
        run = Run(
            protocol=protocol,
            operation=operation,
            pipeline=int(pipeline),
            keys=int(keys),
            size=int(size),
        )
        return await drive(run, float(seconds), int(count), addresses)

    print(json.dumps(run_fresh(work())))


if __name__ == "__main__":
    main(sys.argv[1:])
