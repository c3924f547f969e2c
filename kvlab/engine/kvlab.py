"""kvlab's own node as an engine: its start options and the questions of its JSON protocol.

It does not hold the node's logic; `kvlab.live.node` is imported only where a node runs.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from kvlab.engine.base import NodeStart, Program
from kvlab.engine.jsonline import ASK_TIMEOUT_S, Line, ask
from kvlab.errors import ClientError
from kvlab.live.security import OPEN, Access
from kvlab.ring.change import first_map
from kvlab.ring.cluster_map import Member

if TYPE_CHECKING:
    from pathlib import Path

    from kvlab.spec import ClusterSpec

# The first question waits in the node's accept queue until it is served, so these pauses only
# count for a node that serves and says "not yet", or that refuses.
PAUSE_FIRST_S = 0.001
PAUSE_MAX_S = 0.05
PAUSE_GROWTH = 1.4
PROBE_TIMEOUT_S = 2.0
REPLACED = "others took its place"


class KvlabEngine:
    """Starts and asks kvlab nodes."""

    name = "kvlab"
    preload: tuple[str, ...] = ("kvlab.engine.kvlab", "kvlab.live.node")
    protocol = "json"
    is_ours = True
    entry = "kvlab.engine.kvlab:run_node"
    access: Access = OPEN

    def configured(self, spec: ClusterSpec, folder: Path) -> Self:  # noqa: ARG002
        """Return itself: all that a node needs comes with its start."""
        return self

    def program(self, start: NodeStart) -> Program:
        """Run the node in the fork: its options travel as the payload."""
        initial, join = start.initial, start.join
        if start.is_resumed:
            initial, join = (), tuple(one.advertise for one in start.members if one.id != start.id)
        payload: dict[str, Any] = {
            "id": start.id,
            "host": start.host,
            "port": start.port,
            "join": join,
            "initial": [(one.id, one.advertise) for one in initial],
            "first_map": _first_map(start) if initial else None,
            "r": start.read_quorum,
            "w": start.write_quorum,
            "advertise": start.advertise,
            "cluster": start.cluster,
            "replication": start.replication,
            "ranges": start.ranges,
            "dead_after_us": start.dead_after_us,
            "weight": start.weight,
            "rack": start.rack,
            "data": "" if start.sync == "memory" else start.data_dir,
            "sync": "always" if start.sync == "memory" else start.sync,
            "together": True,
            "log_level": start.log_level,
            **start.security,
            "clock_us": start.clock_us,
        }
        return Program(entry=self.entry, payload=payload)

    async def wait_ready(self, host: str, port: int) -> None:
        """Ask PING until the node says that it is ready."""
        pause_s = PAUSE_FIRST_S
        async with Line(host, port, self.access) as line:
            while True:
                try:
                    info = await line.ask({"type": "PING", "key": ""}, PROBE_TIMEOUT_S)
                except ClientError:
                    info = {}
                if info.get("ready"):
                    return
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * PAUSE_GROWTH, PAUSE_MAX_S)

    async def status(self, host: str, port: int, timeout_s: float) -> dict[str, Any]:
        """Ask STATUS."""
        return await ask(host, port, {"type": "STATUS", "key": ""}, timeout_s, self.access)

    def sees(self, status: dict[str, Any], others: frozenset[str]) -> bool:
        """Tell whether all `others` are up in the node's eyes."""
        peers = status.get("peers", {})
        return all(peers.get(node) == "up" for node in others)

    def is_replaced(self, last_words: str) -> bool:
        """Whether a node that ended did so because others had taken its place (kv/membership)."""
        return REPLACED in last_words

    def why_busy(self, node: str, status: dict[str, Any]) -> str:
        """Read the ranges that are not at rest."""
        for field in ("moving", "giving", "comparing"):
            if status.get(field):
                return f"{node} is still {field} {status[field]} ranges"
        return ""

    def why_no_join(self) -> str:
        """Return "": any node takes new ones in."""
        return ""

    def why_no_leave(self) -> str:
        """Return "": any node sees others out."""
        return ""

    async def leave(self, host: str, port: int, node: str) -> None:
        """Send LEAVE for `node`."""
        await ask(host, port, {"type": "LEAVE", "key": node}, access=self.access)

    async def members(self, host: str, port: int) -> frozenset[str]:
        """Read the members out of the node's MAP."""
        info = await ask(host, port, {"type": "MAP", "key": ""}, access=self.access)
        return frozenset(str(member["id"]) for member in info.get("members", []))

    async def settled(self, host: str, port: int, node: str) -> bool:
        """Tell whether the node is in its own map and no range is on its way to it."""
        status = await self.status(host, port, ASK_TIMEOUT_S)
        if status.get("moving"):
            return False
        return node in await self.members(host, port)

    async def held(self, host: str, port: int) -> dict[str, int]:
        """Add up both namespaces."""
        info = await ask(host, port, {"type": "RANGES", "key": ""})
        both = (*info["ranges"].items(), *info["linear"].items())
        counts: dict[str, int] = {}
        for index, (keys, _) in both:
            counts[index] = counts.get(index, 0) + keys
        return counts

    async def is_empty(self, host: str, port: int) -> bool:
        """Ask for the ranges that hold something, be it the record of a deleted key."""
        info = await ask(host, port, {"type": "RANGES", "key": ""}, access=self.access)
        return not info["ranges"] and not info["linear"]


def _first_map(start: NodeStart) -> dict[str, Any]:
    """Return the map that all founders begin with, as builtins."""
    members = tuple(
        Member(
            id=one.id,
            number=0,
            address=one.advertise,
            client_address=one.address,
            weight=one.weight,
            rack=one.rack,
        )
        for one in start.initial
    )
    return _map_of(start.cluster, members, start.replication, start.ranges)


@lru_cache(maxsize=4)
def _map_of(
    cluster: str, members: tuple[Member, ...], replication: int, ranges: int
) -> dict[str, Any]:
    """Make the map once for all nodes of a start: it is work that each would do again."""
    return first_map(cluster, members, replication, ranges).to_builtins()


def run_node(payload: dict[str, Any], listen_fd: int) -> int:
    """Run a node in this process, a fork of the warm parent; returns its exit status."""
    from kvlab.live.node import NodeOptions, run

    payload = dict(payload)
    payload["join"] = tuple(payload["join"])
    payload["initial"] = tuple((node, address) for node, address in payload["initial"])
    return run(NodeOptions(**payload, listen_fd=listen_fd))
