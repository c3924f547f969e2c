"""What cluster.yaml says, as frozen values, with every default and a sentence for every field.

It checks nothing: `parse_cluster` (cluster_file.py) is the way in, and builds only what is right.

Invariants:

1. No default of a cluster is written anywhere else.
2. `parse_cluster(spec.to_yaml()) == spec`, for every spec that `parse_cluster` returns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import yaml

from kvlab.spec.template import placeholders_of
from kvlab.units import format_duration

RestartPolicy = Literal["never", "on-failure", "always"]
Sync = Literal["always", "interval", "os", "memory"]
Protocol = Literal["json", "resp"]
Probe = Literal["get", "ping", "connect"]

HOST_DEFAULT: Final = "127.0.0.1"
NODE_NAME_DEFAULT: Final = "server{i}"
"""`{i}` counts from 1."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node of the cluster at its start."""

    id: str
    """Its name in every command, table and log: server1, server2, ... unless the file says else."""
    host: str = HOST_DEFAULT
    """The IPv4 loopback address that it listens on (`localhost` in the file is 127.0.0.1 here)."""
    port: int = 0
    """The TCP port that it listens on; 0: any free one, and the same as long as there is data."""
    weight: float = 1.0
    """Its share of the data relative to the other nodes."""
    rack: str | None = None
    """A group of nodes that fail together; replicas of a key go to different racks if they can."""

    @property
    def addr(self) -> str:
        """Host and port as one text, such as 127.0.0.1:8081."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ReplicationSpec:
    """How many copies there are, and how many must answer."""

    n: int = 3
    """Copies of each key, on different nodes."""
    r: int = 2
    """Replicas that must answer a read; a majority of n if the file does not say."""
    w: int = 2
    """Replicas that must acknowledge a write; a majority of n if the file does not say."""


@dataclass(frozen=True, slots=True)
class StorageSpec:
    """Where nodes keep their data."""

    sync: Sync = "always"
    """always: a write is acknowledged when the disk has it; interval: when the system has it, which
    syncs ten times a second; os: the system syncs when it likes; memory: nothing is kept."""


@dataclass(frozen=True, slots=True)
class RestartSpec:
    """What the supervisor does when a node's process ends by itself."""

    policy: RestartPolicy = "on-failure"
    """never; on-failure: unless it exited with 0; always."""
    backoff_us_min: int = 100_000
    """The wait before the first restart; it doubles each time."""
    backoff_us_max: int = 5_000_000
    """The longest wait before a restart."""
    count_max: int = 5
    """After so many restarts within the window, the node counts as failed and stays down."""
    window_us: int = 30_000_000
    """How far back restarts are counted."""


@dataclass(frozen=True, slots=True)
class StopSpec:
    """How a node is asked to end."""

    signal: str = "TERM"
    """The signal that asks, without SIG: TERM, INT, HUP, QUIT or KILL."""
    grace_us: int = 3_000_000
    """How long it may take before it is killed."""


@dataclass(frozen=True, slots=True)
class ReadySpec:
    """When a starting node counts as failed."""

    timeout_us: int = 10_000_000
    """How long it may take until it answers the readiness probe."""


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """What every link between two nodes does when no fault says otherwise."""

    latency_us: int = 0
    """The delay of each direction, added to that of the machine."""
    jitter_us: int = 0
    """How far the delay varies."""


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """How nodes reach each other."""

    shims: bool = True
    """Whether node-to-node connections pass a shim; without it there are no network faults."""
    default: LinkSpec = field(default_factory=LinkSpec)
    """The links of a healthy cluster."""


@dataclass(frozen=True, slots=True)
class LimitsSpec:
    """What the system grants each node's process."""

    open_files: int = 1024
    """File descriptors, connections included."""


@dataclass(frozen=True, slots=True)
class LogSpec:
    """What a node writes to its log."""

    level: str = "info"
    """The least that is worth a line: debug, info, warning or error."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """The kind of server that the nodes run: kvlab's own, or any other by its command.

    `command`, `join` and the values of `env` may hold the placeholders of template.py.
    """

    command: tuple[str, ...] = ()
    """The program and its arguments; empty: kvlab's own node."""
    join: tuple[str, ...] = ()
    """The same for a node that is added to a running cluster; empty: none can be added."""
    protocol: Protocol = "json"
    """What clients speak with the servers."""
    probe: Probe = "get"
    """What a server must answer to count as ready; connect: it accepts a connection."""
    knows: tuple[str, ...] = ()
    """Which questions of kvlab's protocol the servers answer: STATUS, LEAVE, CAS, INCR, APPEND."""
    env: tuple[tuple[str, str], ...] = ()
    """Names and values that are added to the environment."""

    @property
    def name(self) -> str:
        """The engine's name in `kvlab.engine`."""
        return "command" if self.command else "kvlab"

    def to_builtins(self) -> str | dict[str, Any]:
        """Return the engine in the shape of the file."""
        if not self.command:
            return self.name
        entry: dict[str, Any] = {"command": list(self.command)}
        if self.join:
            entry["join"] = list(self.join)
        entry |= {"protocol": self.protocol, "probe": self.probe}
        if self.knows:
            entry["knows"] = list(self.knows)
        if self.env:
            entry["env"] = dict(self.env)
        return entry


@dataclass(frozen=True, slots=True)
class TlsSpec:
    """Files in PEM; without a certificate nodes speak plain TCP."""

    cert: str = ""
    """The certificate that all nodes show."""
    key: str = ""
    """Its key."""
    ca: str = ""
    """Whom nodes and clients trust; nodes must show a certificate of it."""


@dataclass(frozen=True, slots=True)
class SecuritySpec:
    """What nodes ask of others. Files are looked for beside cluster.yaml."""

    password_file: str = ""
    """A file with the password that clients must tell; empty: none."""
    cluster_secret_file: str = ""
    """A file with the secret that nodes must know; empty: the password, if there is one."""
    tls: TlsSpec = field(default_factory=TlsSpec)
    """Files in PEM; without a certificate nodes speak plain TCP."""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What cluster.yaml says."""

    nodes: tuple[NodeSpec, ...]
    """The nodes at the start, in the order of the file."""
    version: int = 1
    """The version of the file's format."""
    name: str = "cluster"
    """The cluster's name; its state lives in .kvlab/<name>/."""
    engine: EngineSpec = field(default_factory=EngineSpec)
    """The kind of server that the nodes run."""
    seed: int | None = None
    """What every random choice is drawn from; None: a fresh one each time, which is printed."""
    replication: ReplicationSpec = field(default_factory=ReplicationSpec)
    """How many copies there are, and how many must answer."""
    ranges: int = 256
    """Into how many equal ranges the ring is cut; a power of two."""
    dead_after_us: int = 600_000_000
    """How long a node may be away until others take its place; 0: for ever."""
    storage: StorageSpec = field(default_factory=StorageSpec)
    """Where nodes keep their data."""
    restart: RestartSpec = field(default_factory=RestartSpec)
    """What the supervisor does when a node's process ends by itself."""
    stop: StopSpec = field(default_factory=StopSpec)
    """How a node is asked to end."""
    ready: ReadySpec = field(default_factory=ReadySpec)
    """When a starting node counts as failed."""
    network: NetworkSpec = field(default_factory=NetworkSpec)
    """How nodes reach each other."""
    limits: LimitsSpec = field(default_factory=LimitsSpec)
    """What the system grants each node's process."""
    log: LogSpec = field(default_factory=LogSpec)
    """What a node writes to its log."""
    security: SecuritySpec = field(default_factory=SecuritySpec)
    """What nodes ask of others."""

    @property
    def node_ids(self) -> tuple[str, ...]:
        """The ids of the nodes, in the order of the file."""
        return tuple(node.id for node in self.nodes)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what is allowed but perhaps not meant; to be shown, not to stop anyone."""
        return tuple(_notes(self))

    def to_builtins(self) -> dict[str, Any]:
        """Return the whole spec, defaults included, in the shape of the file (for YAML or JSON)."""
        return {
            "version": self.version,
            "name": self.name,
            "engine": self.engine.to_builtins(),
            "seed": self.seed,
            "nodes": [_node_to_builtins(node) for node in self.nodes],
            "replication": {
                "n": self.replication.n,
                "r": self.replication.r,
                "w": self.replication.w,
            },
            "ranges": self.ranges,
            "dead_after": _duration(self.dead_after_us),
            "storage": {"sync": self.storage.sync},
            "restart": {
                "policy": self.restart.policy,
                "backoff": [
                    _duration(self.restart.backoff_us_min),
                    _duration(self.restart.backoff_us_max),
                ],
                "max": self.restart.count_max,
                "window": _duration(self.restart.window_us),
            },
            "stop": {"signal": self.stop.signal, "grace": _duration(self.stop.grace_us)},
            "ready": {"timeout": _duration(self.ready.timeout_us)},
            "network": {
                "shims": self.network.shims,
                "default": {
                    "latency": _duration(self.network.default.latency_us),
                    "jitter": _duration(self.network.default.jitter_us),
                },
            },
            "limits": {"open_files": self.limits.open_files},
            "log": {"level": self.log.level},
            "security": {
                "password_file": self.security.password_file or None,
                "cluster_secret_file": self.security.cluster_secret_file or None,
                "tls": {
                    "cert": self.security.tls.cert or None,
                    "key": self.security.tls.key or None,
                    "ca": self.security.tls.ca or None,
                },
            },
        }

    def to_yaml(self) -> str:
        """Print the whole spec, defaults included, as a file that reads back to an equal spec."""
        return yaml.safe_dump(self.to_builtins(), sort_keys=False, default_flow_style=None)


def quorum(n: int) -> int:
    """Return the majority of `n` copies: what r and w are when the file does not say."""
    return n // 2 + 1


_OUR_NODE_ONLY: Final = ("replication", "ranges", "dead_after_us", "storage", "log")
"""Fields that only kvlab's own node is told of."""


def _notes(spec: ClusterSpec) -> list[str]:
    return _notes_on_command(spec) if spec.engine.command else _notes_on_store(spec)


def _notes_on_command(spec: ClusterSpec) -> list[str]:
    notes = []
    usual = ClusterSpec(nodes=())
    idle = [name for name in _OUR_NODE_ONLY if getattr(spec, name) != getattr(usual, name)]
    if idle:
        names = ", ".join(name.removesuffix("_us") for name in idle)
        notes.append(f"{names}: only kvlab's own nodes heed this; write it into engine.command")
    words = " ".join((*spec.engine.command, *(value for _, value in spec.engine.env)))
    told = set(placeholders_of(words))
    if len(spec.nodes) > 1 and told.isdisjoint({"peers", "peers_named", "members"}):
        notes.append("engine.command has no {peers}: the servers are not told of each other")
    return notes


def _notes_on_store(spec: ClusterSpec) -> list[str]:
    notes = []
    node_count, copies = len(spec.nodes), spec.replication
    if copies.n > node_count:
        notes.append(
            f"replication.n is {copies.n}, but there {_are(node_count, 'node')}:"
            f" each key has {_counted(node_count, 'copy', 'copies')} until more join"
        )
    if copies.r + copies.w <= copies.n:
        notes.append(
            f"replication.r + replication.w is {copies.r + copies.w}, not more than n"
            f" ({copies.n}): a read can miss the newest write"
        )
    if spec.ranges < node_count:
        notes.append(
            f"ranges is {spec.ranges}, but there {_are(node_count, 'node')}:"
            " the ring cannot be shared evenly"
        )
    racks = {node.rack for node in spec.nodes}
    if None in racks and len(racks) > 1:
        without = next(node.id for node in spec.nodes if node.rack is None)
        notes.append(
            f"some nodes have a rack, but {without} has none: it counts as a rack of its own"
        )
    elif None not in racks and len(racks) < min(copies.n, node_count):
        notes.append(
            f"there {_are(len(racks), 'rack')} for {min(copies.n, node_count)} copies:"
            " some copies of a key share a rack"
        )
    return notes


def _are(count: int, what: str) -> str:
    return f"{'is' if count == 1 else 'are'} {_counted(count, what, what + 's')}"


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _node_to_builtins(node: NodeSpec) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": node.id, "addr": node.addr, "weight": node.weight}
    if node.rack is not None:
        entry["rack"] = node.rack
    return entry


def _duration(us: int) -> str:
    return format_duration(us, exact=True)
