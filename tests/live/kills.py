"""A campaign: five real nodes with disks, writers that note what was acknowledged, and kill -9.

Each key has one writer, which counts up. So whatever is read later must be at least the last number
that was acknowledged; what was sent and not answered may be there or not. `scripts/kills` runs it.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from .node_process import Cluster, NodeProcess, Wire, nodes, until

WRITERS = 8
KEYS_EACH = 20
ACKS_BETWEEN = 150  # acknowledged writes between two kills, at least
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


class Campaign:
    """The nodes, and who kills them."""

    def __init__(self, cluster: Cluster, sync: str, seed: int) -> None:
        self.cluster = cluster
        self.chance = random.Random(f"kills/{seed}")
        self.flags = (*FLAGS, "--sync", sync)
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
        """Start who is down, and wait for all."""
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
        for name in self.chance.sample(names, count):
            self.cluster.nodes[name].kill()
            self.down[name] = time.monotonic() + self.chance.random() * DOWN_SECONDS_MAX

    def _return(self, name: str) -> None:
        del self.down[name]
        self._begin(name)


def run(times: int, sync: str, seed: int, folder: Path) -> int:
    """Run a campaign and say what it came to; return the exit status."""
    with nodes(folder) as cluster:
        campaign = Campaign(cluster, sync, seed)
        writers = [Writer(number, list(campaign.ports.values()), seed) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        began = time.monotonic()
        for number in range(times):
            goal = sum(writer.acks for writer in writers) + ACKS_BETWEEN
            until(lambda goal=goal: sum(one.acks for one in writers) >= goal, "writes", 60)
            campaign.strike()
            if (number + 1) % 20 == 0:
                print(f"{number + 1} of {times}", file=sys.stderr)  # noqa: T201
        for writer in writers:
            writer.ending.set()
        for writer in writers:
            writer.join()
        campaign.wait_ready()
        lost = _lost(cluster, writers)
        told = {
            "kills": times,
            "sync": sync,
            "seed": seed,
            "seconds": round(time.monotonic() - began, 1),
            "acknowledged": sum(one.acks for one in writers),
            "degraded": sum(one.degraded for one in writers),
            "errors": sum(one.errors for one in writers),
            "keys": WRITERS * KEYS_EACH,
            "lost": lost,
        }
        print(json.dumps(told, indent=2))  # noqa: T201
        return 1 if lost else 0


def _lost(cluster: Cluster, writers: list[Writer]) -> list[str]:
    """Read every key; return what is older than what was acknowledged."""
    lost = []
    with cluster.nodes["server1"].wire() as wire:
        for writer in writers:
            for key, number in writer.acknowledged.items():
                reply = wire.ask(type="GET", key=key, level="all")
                found = int(reply["value"] or 0) if reply["status"] == "SUCCESS" else 0
                if found < number:
                    lost.append(f"{key}: {number} was acknowledged, {found} is there")
    return lost


if __name__ == "__main__":
    given = dict(enumerate(sys.argv[1:]))
    with tempfile.TemporaryDirectory(prefix="kvlab-kills-") as place:
        sys.exit(
            run(int(given.get(0, 200)), given.get(1, "always"), int(given.get(2, 1)), Path(place))
        )
