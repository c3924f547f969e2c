"""What the laboratory asks of a kind of server: how to start it, whether it is ready, how it is.

It starts nothing itself: an engine describes a program and speaks to a running node's address.
Adding a kind of server means one class with these methods and one line in `ENGINES`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Founder:
    """A founding member as every other one is told of it."""

    id: str
    advertise: str
    address: str
    weight: float
    rack: str


@dataclass(frozen=True)
class NodeStart:
    """Everything about one start of one node; addresses are "host:port"."""

    id: str
    cluster: str
    host: str
    port: int
    advertise: str
    initial: tuple[Founder, ...]
    """Every founding member, this one included; empty for a node that joins."""
    join: tuple[str, ...]
    """Advertised addresses of living members, for a node that joins."""
    replication: int
    read_quorum: int
    write_quorum: int
    ranges: int
    dead_after_us: int
    """A node that is away so long is replaced; 0: never."""
    weight: float
    rack: str
    data_dir: str
    """A folder that is the node's own."""
    sync: str
    """When that is synced: always, interval or os; memory: nothing is kept there."""
    log_level: str


@dataclass(frozen=True)
class Program:
    """How the warm parent runs a node: a Python entry in the fork itself, or a command.

    `entry` is "module:function" called with (payload, listen_fd); `argv` may hold "{listen_fd}".
    """

    entry: str = ""
    payload: dict[str, Any] = field(default_factory=dict)
    argv: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """A kind of server. Methods that ask raise ClientError when the node does not answer."""

    name: str
    preload: tuple[str, ...]
    """Modules that the warm parent imports before it forks."""

    def program(self, start: NodeStart) -> Program:
        """Describe how this node is started."""
        ...

    async def wait_ready(self, host: str, port: int) -> None:
        """Return as soon as the node serves; the caller bounds the time."""
        ...

    async def status(self, host: str, port: int, timeout_s: float) -> dict[str, Any]:
        """Ask a node how it is."""
        ...

    def sees(self, status: dict[str, Any], others: frozenset[str]) -> bool:
        """Tell from a status whether the node is connected to all `others`."""
        ...

    def why_busy(self, node: str, status: dict[str, Any]) -> str:
        """Say from its status what a node still has to receive, give or compare, or return ""."""
        ...

    async def leave(self, host: str, port: int, node: str) -> None:
        """Ask the node at this address to see `node` out of the cluster."""
        ...

    async def members(self, host: str, port: int) -> frozenset[str]:
        """Ask a node who belongs to the cluster by its map."""
        ...

    async def settled(self, host: str, port: int, node: str) -> bool:
        """Tell whether `node` at this address is a member that holds all it is to hold."""
        ...
