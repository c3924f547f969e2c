"""Campaign `crashes`: kill -9 of one or two of five real nodes with disks, at any moment, under load.

Each key has one writer, which counts up. So whatever is read later must be at least the last number
that was acknowledged, also by fewer nodes than asked; what was not answered may be there or not.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from kvendure.campaign import Campaign
from tests.live.node_process import Cluster, NodeProcess, Wire, nodes, until

WRITERS = 8
KEYS_EACH = 20
ACKS_BETWEEN = 150  # acknowledged writes between two kills, at least
MOMENT_S_MAX = 0.1  # and then so long at most
READ_EVERY = 25  # kills between two readings of all keys
WRITES_S = 120.0
DOWN_SECONDS_MAX = 1.0
FLAGS = ("--ranges", "32")


class Writer(threading.Thread):
    """One client: it counts its keys up, through whichever node answers."""

    def __init__(self, number: int, ports: list[int], seed: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: dict[str, int] = {f"w{number}-{key}": 0 for key in range(KEYS_EACH)}
        self.acks = self.errors = self.degraded = 0
        self.wrong: list[str] = []
        self.ending = threading.Event()
        self._chance = random.Random(f"writer/{seed}/{number}")
        self._ports = ports
        self._count = 0

    def run(self) -> None:
        """Go on until `ending` is set."""
        while not self.ending.is_set():
            with (
                contextlib.suppress(OSError, AssertionError),
                Wire(self._chance.choice(self._ports), seconds=5) as wire,
            ):
                self._talk(wire)
            self.ending.wait(0.01)  # a node that refuses connections is not asked all the time

    def _talk(self, wire: Wire) -> None:
        while not self.ending.is_set():
            key = self._chance.choice(list(self.acknowledged))
            self._count += 1
            reply = wire.ask(type="SET", key=key, value=str(self._count))
            if reply["status"] != "SUCCESS":
                self.errors += 1
                return
            self.acknowledged[key] = self._count
            self.acks += 1
            self.degraded += bool(reply.get("degraded"))


class Victims:
    """The nodes, and who kills them."""

    def __init__(self, cluster: Cluster, sync: str, seed: int) -> None:
        self.cluster = cluster
        self.chance = random.Random(f"crashes/{seed}")
        self.flags = (*FLAGS, "--sync", sync)
        self.killed = self.pairs = 0
        self.down: dict[str, float] = {}  # node -> when it is to come back
        cluster.found(5)  # for its ports
        self.ports = {name: node.port for name, node in cluster.nodes.items()}
        for node in cluster.nodes.values():
            node.close()
        for name in self.ports:
            self._begin(name)
        self.wait_ready()

    def _begin(self, name: str) -> NodeProcess:
        node = self.cluster.begin(
            *(name, "--initial", self.cluster.initial, *self.flags),
            *("--data", str(self.cluster.folder / f"data-{name}")),
            port=self.ports[name],
        )
        self.cluster.nodes[name] = node.wait_listening()
        return node

    def wait_ready(self) -> None:
        """Start who is down, and wait until all serve."""
        for name in list(self.down):
            self._return(name)
        for node in self.cluster.nodes.values():
            node.wait_ready()

    def strike(self) -> None:
        """Kill a node or two; let those come back whose time has come."""
        for name, when in list(self.down.items()):
            if when <= time.monotonic() or len(self.down) > 1:
                self._return(name)
        names = [name for name in self.ports if name not in self.down]
        count = 1 if self.down else self.chance.choice((1, 1, 2))  # so that two are down at most
        self.killed += count
        self.pairs += count == 2
        for name in self.chance.sample(names, count):
            self.cluster.nodes[name].kill()
            self.down[name] = time.monotonic() + self.chance.random() * DOWN_SECONDS_MAX

    def lost(self, writers: list[Writer]) -> list[str]:
        """Start who is down, read every key; return what is older than what was acknowledged."""
        before = {key: number for one in writers for key, number in one.acknowledged.items()}
        self.wait_ready()
        found = []
        with self.cluster.nodes[self.chance.choice(list(self.ports))].wire() as wire:
            for key, number in before.items():
                reply = wire.ask(type="GET", key=key, level="all")
                there = int(reply["value"] or 0) if reply["status"] == "SUCCESS" else 0
                if there < number:
                    found.append(f"{key}: {number} was acknowledged, {there} is there")
        return found

    def _return(self, name: str) -> None:
        del self.down[name]
        self._begin(name)


def crashes(options: argparse.Namespace) -> int:
    """Run the campaign; return the exit status."""
    told = Campaign(
        "crashes", f"what was acknowledged is there (sync: {options.sync})", options.count,
        options.json,
    )  # fmt: skip
    with (
        tempfile.TemporaryDirectory(prefix="kvlab-crashes-") as place,
        nodes(Path(place)) as cluster,
    ):
        victims = Victims(cluster, options.sync, options.seed)
        ports = list(victims.ports.values())
        writers = [Writer(number, ports, options.seed) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        try:
            _strike_and_read(victims, writers, told)
        except KeyboardInterrupt:
            told.interrupted = True
        finally:
            for writer in writers:
                writer.ending.set()
            for writer in writers:
                writer.join()
    told.facts = {
        "seed": options.seed,
        "nodes killed": victims.killed,
        "two at once": victims.pairs,
        "acknowledged": sum(one.acks for one in writers),
        "by fewer than asked": sum(one.degraded for one in writers),
        "errors": sum(one.errors for one in writers),
        "keys": WRITERS * KEYS_EACH,
    }
    return told.close()


def _have_written(writers: list[Writer], goal: int) -> bool:
    return sum(one.acks for one in writers) >= goal


def _strike_and_read(victims: Victims, writers: list[Writer], told: Campaign) -> None:
    for number in range(1, told.count + 1):
        goal = sum(writer.acks for writer in writers) + ACKS_BETWEEN
        until(partial(_have_written, writers, goal), "writes", WRITES_S)
        time.sleep(victims.chance.random() * MOMENT_S_MAX)
        victims.strike()
        lost = victims.lost(writers) if number % READ_EVERY == 0 or number == told.count else []
        told.note(f"kill {number}: {len(lost)} keys, such as {lost[0]}" if lost else "")
