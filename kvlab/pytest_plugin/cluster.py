"""A cluster of real processes for one test at a time; every call blocks until it is so.

All of it is `lab.Lab`'s, which runs on an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import yaml

from kvlab.errors import ClientError
from kvlab.lab.nodefaults import Proof
from kvlab.lab.rolling import wait_whole
from kvlab.lab.supervisor import Lab
from kvlab.live.blocking import BlockingClient
from kvlab.live.resp_client import RespClient
from kvlab.spec import ClusterSpec, parse_cluster

CALL_SECONDS_MAX = 300.0
KEPT_MAX = 2  # clusters that run and wait for the next test of their kind
LOG_LINES = 10  # of each node's log that a failed test shows
_T = TypeVar("_T")


class Cluster:
    """The nodes of one cluster, and what can be done to them."""

    def __init__(self, lab: Lab, loop: Loop) -> None:
        self.is_dirty = False  # a fault or a change: another test must not get it
        self.has_failed = False  # the test: nobody may touch what it left
        self.kept: Path | None = None  # where that is to be kept; None: where it is
        self._lab = lab
        self._loop = loop
        self._clients: list[BlockingClient] = []

    # -- where it is ----------------------------------------------------------------------------

    @property
    def nodes(self) -> list[str]:
        """Return the ids of all nodes."""
        return list(self._lab.members)

    @property
    def addresses(self) -> list[str]:
        """Return where clients reach the nodes, as "host:port", also of those that are down."""
        return [f"{host}:{port}" for host, port in self._lab.addresses.values()]

    def address(self, node: str) -> str:
        """Return where clients reach one node."""
        return self._lab.member(node).address

    @property
    def directory(self) -> Path:
        """Return the folder with the nodes' logs and data, and the diary of what was done."""
        return self._lab.directory.path

    def client(self, node: str = "", **options: Any) -> BlockingClient:
        """Return a client of all nodes, or of one; it is closed when the test ends.

        Of servers that speak RESP it is a RespClient, which has get, set and delete.
        """
        kind: Any = BlockingClient
        if self._lab.engine.protocol == "resp":
            kind = RespClient
        else:
            options.setdefault("access", self._lab.access)
        made: BlockingClient = kind([self.address(node)] if node else self.addresses, **options)
        self._clients.append(made)
        return made

    def status(self) -> list[dict[str, Any]]:
        """Return how every node is: the supervisor's view, and the node's own in "node"."""
        nodes: list[dict[str, Any]] = self._run(self._lab.status())["nodes"]
        return nodes

    # -- what is done to it ---------------------------------------------------------------------

    def kill(self, targets: str) -> list[Proof]:
        """SIGKILL nodes ("server2", "server1,server3", "one", "minority", "all")."""
        return self._act("kill", targets)

    def stop(self, targets: str) -> list[Proof]:
        """End nodes gracefully; they stay down."""
        return self._act("stop", targets)

    def start(self, targets: str) -> list[Proof]:
        """Start nodes that are down, and wait until they serve."""
        return self._act("start", targets)

    def restart(self, targets: str = "all", *, rolling: bool = True) -> list[Proof]:
        """Restart nodes, one after the other unless told otherwise."""
        self.is_dirty = True
        if rolling:
            return self._run(self._lab.restart_in_turn(targets))
        return self._act("restart", targets)

    def pause(self, targets: str) -> list[Proof]:
        """Freeze nodes: their sockets stay open and nothing answers."""
        return self._act("pause", targets)

    def resume(self, targets: str) -> list[Proof]:
        """Let frozen nodes run on."""
        return self._act("resume", targets)

    def partition(self, groups: str, *, mode: str = "hold") -> None:
        """Cut the network between groups: "server1 | server2,server3"."""
        self.is_dirty = True
        sides = [[one.strip() for one in side.split(",")] for side in groups.split("|")]
        self._run(
            self._lab.network.partition(
                self.nodes, groups=sides, sources=None, targets=None, mode=mode
            )
        )

    def cut(self, source: str, target: str, *, mode: str = "hold") -> None:
        """Cut one direction: what `source` sends to `target` (ids, or several with commas)."""
        self.is_dirty = True
        sources, targets = source.split(","), target.split(",")
        self._run(
            self._lab.network.partition(
                self.nodes, groups=None, sources=sources, targets=targets, mode=mode
            )
        )

    def link(self, source: str, target: str, *, latency_ms: float, jitter_ms: float = 0) -> None:
        """Delay what one node sends to another."""
        self.is_dirty = True
        rule = {"latency_us": int(latency_ms * 1000), "jitter_us": int(jitter_ms * 1000)}
        self._run(self._lab.network.link(self.nodes, source, target, both=False, rule=rule))

    def heal(self) -> None:
        """Take every fault of the network back."""
        self._run(self._lab.network.heal(self.nodes))

    def add(self) -> str:
        """Add a node, wait until it holds its share, and return its id."""
        self.is_dirty = True
        return str(self._run(self._lab.membership.add())["id"])

    def remove(self, node: str) -> None:
        """See a node out."""
        self.is_dirty = True
        self._run(self._lab.membership.remove(node))

    def wait_whole(self) -> None:
        """Wait until every node runs, sees all others, and holds all that it should."""
        self._run(wait_whole(self._lab))

    # -- for the plugin -------------------------------------------------------------------------

    def end_test(self) -> bool:
        """Close what a test had open; return whether another test may have this cluster."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        if self.is_dirty or self.has_failed:
            return False
        return self._run(self._is_empty())

    async def _is_empty(self) -> bool:
        """Whether no node holds a record, of a deleted key neither."""
        for host, port in self._lab.addresses.values():
            try:
                if not await self._lab.engine.is_empty(host, port):
                    return False
            except ClientError:
                return False
        return True

    def story(self) -> str:
        """Return what the nodes said last, and where the rest is."""
        lines = [f"files: {self.kept or self.directory}"]
        for member in self._lab.members.values():
            lines.append(f"{member.id} ({member.state}):")
            try:
                text = member.log.read_text(errors="replace")
            except OSError as error:
                text = f"no log: {error.strerror}"
            lines += [f"  {line}" for line in text.splitlines()[-LOG_LINES:]]
        return "\n".join(lines)

    def close(self) -> None:
        """End all nodes, and keep what they left if the test has failed."""
        self._run(self._lab.close())
        if self.has_failed and self.kept is not None:
            shutil.rmtree(self.kept, ignore_errors=True)  # of an earlier failure of this test
            shutil.copytree(self.directory, self.kept, ignore=_sockets)

    def _act(self, verb: str, targets: str) -> list[Proof]:
        self.is_dirty = True
        return self._run(self._lab.act(verb, targets))

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._loop.run(work)


def _sockets(folder: str, names: list[str]) -> list[str]:
    """Return what is no file or folder, and cannot be copied."""
    paths = {name: Path(folder, name) for name in names}
    return [name for name, path in paths.items() if not (path.is_file() or path.is_dir())]


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kvlab", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Let something happen there, and wait for its end."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(CALL_SECONDS_MAX)
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Pool:
    """The clusters of one test session; those that a test left as they were serve the next one."""

    def __init__(self, new_directory: Callable[[], Path]) -> None:
        self._new_directory = new_directory
        self._loop: Loop | None = None
        self._free: list[tuple[str, Cluster]] = []
        self._taken: dict[Cluster, str] = {}

    def take(self, keys: dict[str, Any]) -> Cluster:
        """Return a cluster of a kind. Raises UsageError, SpecError for wrong keys, InfraError."""
        kind = json.dumps(keys, sort_keys=True)
        for free in self._free:
            if free[0] == kind:
                self._free.remove(free)
                self._taken[free[1]] = kind
                return free[1]
        cluster = self._start(parse_cluster(yaml.safe_dump(keys), source="@pytest.mark.kvlab"))
        self._taken[cluster] = kind
        return cluster

    def _start(self, spec: ClusterSpec) -> Cluster:
        if self._loop is None:
            self._loop = Loop()
        lab = Lab(spec, self._new_directory())
        self._loop.run(lab.start())
        return Cluster(lab, self._loop)

    def give_back(self, cluster: Cluster) -> None:
        """A test has ended: keep its cluster for the next, or end it."""
        kind = self._taken.pop(cluster)
        if not cluster.end_test():
            cluster.close()
            return
        self._free.append((kind, cluster))
        while len(self._free) > KEPT_MAX:
            self._free.pop(0)[1].close()

    def close(self) -> None:
        """End everything."""
        for cluster in [*self._taken, *(cluster for _, cluster in self._free)]:
            cluster.close()
        self._taken.clear()
        self._free.clear()
        if self._loop is not None:
            self._loop.close()
