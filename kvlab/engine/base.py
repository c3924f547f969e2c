"""What the laboratory asks of a kind of server: how to start it, whether it is ready, how it is.

It starts nothing itself: an engine describes a program and speaks to a running node's address.
Adding a kind of server means one class with these methods and one line in `ENGINES`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from kvlab.live.security import Access

if TYPE_CHECKING:
    # Not at run time: the warm parent of the nodes must not carry a YAML reader.
    from pathlib import Path

    from kvlab.spec import ClusterSpec


LISTEN_FD = "{listen_fd}"


@dataclass(frozen=True)
class Place:
    """A node of the cluster as the others are told of it."""

    id: str
    advertise: str
    address: str
    weight: float
    rack: str


@dataclass(frozen=True)
class NodeStart:
    """Everything about one start of one node; addresses are "host:port"."""

    id: str
    index: int
    """Its number in the laboratory, from 1 in the order of the file and then of joining."""
    cluster: str
    host: str
    port: int
    advertise: str
    initial: tuple[Place, ...]
    """Every founding member, this one included; empty for a node that joins."""
    join: tuple[str, ...]
    """Advertised addresses of living members, for a node that joins."""
    members: tuple[Place, ...]
    """Every node of the laboratory now, this one included, living or not."""
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
    security: dict[str, str] = field(default_factory=dict)
    """What the node asks of others, as options of `kvlab node` name it: absolute paths of files."""
    clock_us: int = 0
    """How far the node's clock is off: what the laboratory alone may ask of a node."""
    is_resumed: bool = False
    """Whether the cluster goes on with its data: a node that has none is taken in by those that do,
    and founds nothing."""


@dataclass(frozen=True)
class Program:
    """How the warm parent runs a node: a Python entry in the fork itself, or a command.

    `entry` is "module:function" called with (payload, listen_fd). `argv` is executed in the folder
    `cwd`, and may hold "{listen_fd}"; where it does not, the program opens its port itself.
    """

    entry: str = ""
    payload: dict[str, Any] = field(default_factory=dict)
    argv: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = ""

    @property
    def inherits(self) -> bool:
        """Whether the program is handed a listening socket."""
        return bool(self.entry) or any(LISTEN_FD in word for word in self.argv)


class Engine(Protocol):
    """A kind of server. Methods that ask raise ClientError when the node does not answer."""

    name: str
    preload: tuple[str, ...]
    """Modules that the warm parent imports before it forks."""
    protocol: str
    """What clients speak with the servers: json or resp."""
    is_ours: bool
    """Whether the servers are kvlab's own nodes, with a ring, a map and moves to ask for."""

    def configured(self, spec: ClusterSpec, folder: Path) -> Self:
        """Return the engine for this cluster; programs are looked for from `folder`."""
        ...

    access: Access
    """What the nodes ask of whoever asks them."""

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

    def is_replaced(self, last_words: str) -> bool:
        """Whether a server that ended, by the end of its log, can begin anew without its data."""
        ...

    def why_busy(self, node: str, status: dict[str, Any]) -> str:
        """Say from its status what a node still has to receive, give or compare, or return ""."""
        ...

    def why_no_join(self) -> str:
        """Say why no node can be added to a running cluster, or return ""."""
        ...

    def why_no_leave(self) -> str:
        """Say why no node can be seen out of a running cluster, or return ""."""
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

    async def held(self, host: str, port: int) -> dict[str, int]:
        """Ask how many keys the node holds, per range; {} where that cannot be known."""
        ...

    async def is_empty(self, host: str, port: int) -> bool:
        """Tell whether the node holds no record at all, as far as it can be known."""
        ...
