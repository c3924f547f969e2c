"""The two worlds of a cluster, with the same hand on both: real processes or simulated hosts.

A key has two copies, both of which are written and read: so much moves with three nodes already.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kvlab.kv.state import Settings
from kvlab.rng import Rng
from kvlab.sim.host import Host
from tests.conformance.faulty_node import Faults
from tests.conformance.host_worlds import RealClient, RealEnd, SimulatedClient
from tests.conformance.link_worlds import MS, PATIENCE_US
from tests.live.node_process import Cluster

COPIES = 2
ASK_US = 20 * MS  # from one question to the next, which is work for the nodes


class Several:
    """What is the same in both worlds."""

    def connect(self: Any, node: str) -> Any:
        end = self.dial(node)
        self.wait_for(lambda: end.connected, f"a connection to {node}")
        return end

    def answers(self: Any, node: str, *requests: dict[str, Any]) -> list[dict[str, Any]]:
        """Ask a node all these requests at once."""
        end = self.connect(node)
        end.write(b"".join(json.dumps(one).encode() + b"\n" for one in requests))
        self.wait_for(lambda: end.got.count(b"\n") == len(requests) or end.gone, "all replies")
        replies: list[dict[str, Any]] = end.replies
        assert len(replies) == len(requests)
        end.close()
        return replies

    def answer(self: Any, node: str, **request: Any) -> dict[str, Any]:
        [reply] = self.answers(node, request)
        return dict(reply)

    def leave(self: Any, name: str, asked: str) -> dict[str, Any]:
        """Ask a node to let one leave; return its reply."""
        return dict(self.answer(asked, type="LEAVE", key=name))

    def wait_whole(self: Any, *names: str) -> None:
        """Wait until these are the cluster, by the word of each, all linked and nothing moves."""
        until_us = self.now_us + PATIENCE_US
        while not all(self._is_whole(name, names) for name in names):
            assert self.now_us < until_us, f"{', '.join(names)} did not come to rest"
            self.reaches(lambda: False, ASK_US)

    def _is_whole(self: Any, name: str, names: tuple[str, ...]) -> bool:
        status, shown = self.answers(name, {"type": "STATUS"}, {"type": "MAP"})
        if not status["info"]["ready"] or "members" not in shown["info"]:
            return False
        members = sorted(one["id"] for one in shown["info"]["members"])
        still = all(one["next"] is None for one in shown["info"]["ranges"])
        linked = status["info"]["peers"] == {one: "up" for one in names if one != name}
        return still and linked and members == sorted(names)


class RealSeveral(Several, RealClient):
    """Nodes in processes of their own."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._cluster = Cluster(folder, lambda name: self._faults(name).program)

    def _faults(self, name: str) -> Faults:
        return Faults(self._folder / f"faults-{name}")

    def set_clock(self, name: str, off_us: int) -> None:
        """Let the clock of a node that does not run yet be off by so much."""
        self._faults(name).set("clock-us", off_us)

    def found(self, count: int) -> None:
        """Start the founding members, server1 and so on, and wait until all are linked."""
        self._cluster.found(count, "--replication", str(COPIES))

    def join(self, name: str, through: str) -> None:
        """Start a node that asks another one to be taken in."""
        seed = self._cluster.nodes[through].address
        self._cluster.start(name, "--join", seed, "--replication", str(COPIES))

    def kill(self, name: str) -> None:
        self._cluster.nodes[name].kill()

    def has_left(self, name: str) -> bool:
        """Whether a node's process has ended by itself because it has left the cluster."""
        node = self._cluster.nodes[name]
        if (code := node.process.poll()) is None:
            return False
        assert (code, "has left the cluster" in node.log) == (0, True), node.log
        return True

    def dial(self, node: str) -> RealEnd:
        return self._dial(self._cluster.nodes[node].port)

    def close(self) -> None:
        self._close_ends()
        for node in self._cluster.nodes.values():
            assert "Traceback" not in node.log, node.log

    def end(self) -> None:
        self._cluster.close()


class SimulatedSeveral(Several, SimulatedClient):
    """Nodes on machines of the simulated network."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._seed = seed
        self._hosts: dict[str, Host] = {}

    def _host(self, name: str) -> Host:
        if name not in self._hosts:
            rng = Rng(self._seed, name)
            self._hosts[name] = Host(name, self._clock, self._network, self._watch, rng)
        return self._hosts[name]

    def set_clock(self, name: str, off_us: int) -> None:
        self._host(name).skew_us = off_us

    def found(self, count: int) -> None:
        names = [f"server{number}" for number in range(1, count + 1)]
        initial = tuple((name, f"{name}:1") for name in names)
        for name in names:
            self._start(name, (), initial)
        self.wait_whole(*names)

    def join(self, name: str, through: str) -> None:
        self._start(name, (f"{through}:1",), ())

    def _start(
        self, name: str, seeds: tuple[str, ...], initial: tuple[tuple[str, str], ...]
    ) -> None:
        def settings(boot: int) -> Settings:
            return Settings(
                id=name,
                cluster="kvlab",
                address=f"{name}:1",
                client_address=f"{name}:1",
                boot=boot,
                replication=COPIES,
                initial=initial,
            )

        self._host(name).start(settings, seeds)

    def kill(self, name: str) -> None:
        self._hosts[name].end()

    def has_left(self, name: str) -> bool:
        host = self._hosts[name]
        if host.life is not None:
            return False
        assert host.ended_because == "it has left the cluster"
        return True

    def dial(self, node: str) -> Any:
        return self._dial(node)

    def end(self) -> None:
        pass
