"""A scenario: what runs, what clients do, and what goes wrong when. Frozen values, all defaults here.

It resolves nothing and draws nothing: `experiment` turns a scenario into a plan. The text form is
`scenario_file`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from kvlab.spec.cluster import ClusterSpec, quorum
from kvlab.spec.template import placeholders_of

SECOND_US: Final = 1_000_000
FAULT_KINDS: Final = (
    "kill",
    "power-cut",
    "stop",
    "wipe",
    "bit-flip",
    "disk-full",
    "sync-fail",
    "pause",
    "slow",
    "partition",
    "link",
    "reset",
    "skew",
    "join",
    "leave",
)
SYNCS: Final = ("memory", "always", "interval", "os")
NAMESPACES: Final = ("eventual", "linear")
VERBS: Final = ("get", "set", "delete", "cas", "incr", "append")
LINEAR_VERBS: Final = ("cas", "incr", "append")  # that only the linear namespace has
CART_VERBS: Final = ("add", "add-cas")
"""Of drawn operations alone: read a list, and write it, or swap it, with one thing more in it."""
CHECKED_KINDS: Final = ("set", "counter", "append", "cart")
"""Kinds of workload that have a check of their own, of the same name."""
YCSB_KINDS: Final = ("ycsb-a", "ycsb-b", "ycsb-c", "ycsb-d", "ycsb-e", "ycsb-f")
KINDS: Final = ("mix", "register", *CHECKED_KINDS, *YCSB_KINDS)
LEVELS: Final = ("", "available", "one", "quorum", "all", "atomic")
BITES: Final = ("any", "all", "none")
EXPECTATIONS: Final = ("valid", "invalid", "any")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSpec:
    """One thing that goes wrong, from `at_us` for `for_us` (0: until everything is undone).

    kind        whom or what        undone by
    kill        targets             a start (memory is lost)
    power-cut   targets             a start; nobody is told of the end of connections
    stop        targets             a start; the node was asked to end, and answered what it owed
    wipe        targets             a start, with an empty disk
    bit-flip    targets             a start; one bit of what the disk had kept is turned over
    disk-full   targets             room on the disk
    sync-fail   targets             a start, if a sync failed: the next one does
    pause       targets             a resume
    slow        targets, cpu        the whole processor again; `cpu` is the share that it had
    partition   one of three, mode  a heal: `groups`, `shape`, or `source` -> `target` (one way)
    link        source -> target    a heal; with the fields of a link rule, cut included
    reset       source -> target    nothing: connections that are open break, once
    skew        targets, by_us      a step back; a process sees it when it starts
    join        targets             nothing: a new node comes, of that name
    leave       targets             nothing: it hands over and goes

    `targets`, `source` and `target` are selectors, `groups` are texts like "server1 | server2,server3".
    `shape` is one of partition.SHAPES; for `isolate`, `targets` says whom.

    With `every_us` it happens `times` (0: as often as there is time), each time with targets of its
    own, and up to `vary_us` earlier or later.
    """

    kind: str
    at_us: int
    for_us: int = 0
    targets: str = ""
    groups: str = ""
    shape: str = ""
    source: str = ""
    target: str = ""
    cut: bool = False
    mode: str = "hold"  # of a cut: what connections feel, "hold" or "reset"
    connect: str = "accept"
    latency_us: int = 0
    jitter_us: int = 0
    bandwidth_bps: int = 0
    by_us: int = 0
    cpu: float = 0.0
    every_us: int = 0
    times: int = 0
    vary_us: int = 0

    def times_within(self, end_us: int) -> int:
        """Return how often it happens where all of it, however late, is over by `end_us`."""
        if self.times or not self.every_us:
            return self.times or 1
        last_us = end_us - self.for_us - self.vary_us
        return max(1, (last_us - self.at_us) // self.every_us + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSpec:
    """A stretch of the run with a name; the first begins at 0, each other where one ends."""

    name: str
    span_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardsSpec:
    """What a run must have had, or it proves nothing and is at best `unknown`."""

    phase_ok: int = 10  # operations that succeeded in each phase, where there are phases
    ok_share: float = 0.2  # of all operations
    bite: str = "any"  # which faults must have had an effect: one of BITES


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSpec:
    """One operation of one client, sent at `at_us` or as soon as those before it are answered."""

    at_us: int
    client: str
    verb: str  # one of VERBS; or, of a cart, of CART_VERBS
    key: str
    value: str = ""  # to write, to append, or ("": 1) to add
    expected: str = ""  # by a cas; "": that the key is absent
    node: str = ""  # whom the client asks; "": wherever it is connected
    level: str = ""
    meta: bool = False  # ask for version and acknowledgements
    again: bool = False  # where its end is unknown, ask another node once more, under the same id
    timeout_us: int = 2 * SECOND_US


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSpec:
    """Operations to be drawn: how many, by whom, of what, over how long.

    kind          what clients do                                          checked by
    mix           the verbs, by their shares                               what the setting promises
    register      half gets, half sets                                     the same
    set           each write is of a key of its own; gets of earlier ones  set
    counter       add 1 to 5 to counters, and read them                    counter
    append        append to growing texts, and read them                   append
    cart          read a list, write it with one thing more in it          cart
    ycsb-a ... f  after its load of all keys, as YCSB's core workloads     what the setting promises

    Shares are those of a mix; of what a cart's writes are, the namespace decides (set or cas).
    """

    kind: str = "mix"  # one of KINDS
    operations: int = 1000
    clients: int = 4
    keys: int = 16
    span_us: int = 20 * SECOND_US
    timeout_us: int = 2 * SECOND_US
    get: float = 0.5
    set: float = 0.4
    delete: float = 0.1
    cas: float = 0.0
    incr: float = 0.0
    append: float = 0.0
    level: str = ""  # of all of them; "": as each client likes
    value_bytes: int = 16

    @property
    def verbs(self) -> frozenset[str]:
        """Return the verbs that occur; of a cart, those of the eventual namespace."""
        if self.kind == "mix":
            return frozenset(verb for verb in VERBS if getattr(self, verb))
        return frozenset(("get", {"counter": "incr", "append": "append"}.get(self.kind, "set")))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioSpec:
    """All of one run but its chance, which `seed` decides.

    `operations` are done in place of the workload where there are any. With `cluster`, what it says
    of nodes stands in the fields here too (`on_cluster`).
    """

    name: str = "scenario"
    seed: int = 1
    nodes: int = 5
    copies: int = 3  # n
    r: int = 2
    w: int = 2
    ranges: int = 16
    ns: str = "eventual"  # in which clients ask: one of NAMESPACES
    sync: str = "memory"  # where data is kept, and when it is synced: one of SYNCS
    fsync_us: int = 0  # that a disk takes for one sync, at most
    dead_after_us: int = 0  # a member that is away so long is replaced by others; 0: never
    latency_us: int = 300  # of every link, each way
    jitter_us: int = 200
    clocks: dict[str, int] = field(default_factory=dict)  # node -> offset in microseconds
    workload: WorkloadSpec = field(default_factory=WorkloadSpec)
    operations: tuple[OperationSpec, ...] = ()
    phases: tuple[PhaseSpec, ...] = ()
    faults: tuple[FaultSpec, ...] = ()
    guards: GuardsSpec = field(default_factory=GuardsSpec)
    checks: tuple[str, ...] = ()  # names of checks; none: what the setting promises
    expect: str = "valid"  # one of EXPECTATIONS
    time_us: int = 30 * SECOND_US  # until everything is undone
    settle_us: int = 30 * SECOND_US  # within which the nodes must then agree and serve
    cluster: ClusterSpec | None = None  # that it runs on, in place of what is said here of nodes
    folder: str = ""  # where programs and files of the cluster are looked for; "": the current one

    @property
    def founders(self) -> tuple[str, ...]:
        """Return the names of the nodes that there are at first."""
        if self.cluster is not None:
            return self.cluster.node_ids
        return tuple(f"server{number}" for number in range(1, self.nodes + 1))

    @property
    def is_of_others(self) -> bool:
        """Whether the servers are not kvlab's own nodes."""
        return self.cluster is not None and bool(self.cluster.engine.command)

    @property
    def keeps_data(self) -> bool:
        """Whether nodes have a folder in which data outlasts them, as far as it can be known."""
        if self.cluster is None or not self.is_of_others:
            return self.sync != "memory"
        engine = self.cluster.engine
        words = (*engine.command, *(value for _, value in engine.env))
        return any("data" in placeholders_of(word) for word in words)

    @property
    def phase_times(self) -> tuple[tuple[str, int, int], ...]:
        """Return the phases as (name, from, until); one for all, where the scenario has none."""
        found, begins_us = [], 0
        for phase in self.phases:
            found.append((phase.name, begins_us, begins_us + phase.span_us))
            begins_us += phase.span_us
        return tuple(found) or (("run", 0, self.time_us),)


def on_cluster(spec: ScenarioSpec, cluster: ClusterSpec, folder: str = "") -> ScenarioSpec:
    """Return the scenario on another cluster than its own: all that it says of nodes is the cluster's.

    How many copies servers by others keep is not known, nor when they lose some: what is usual stands
    in those fields, and nothing is concluded from them.
    """
    nodes = len(cluster.nodes)
    if cluster.engine.command:
        usual = ScenarioSpec()
        copies = min(usual.copies, nodes)
        r = w = quorum(copies)
        sync, ranges, dead_after_us = "always", usual.ranges, usual.dead_after_us
    else:
        copies = min(cluster.replication.n, nodes)
        r, w = min(cluster.replication.r, copies), min(cluster.replication.w, copies)
        sync, ranges = cluster.storage.sync, cluster.ranges
        dead_after_us = cluster.dead_after_us
    return replace(
        spec, nodes=nodes, copies=copies, r=r, w=w, sync=sync, ranges=ranges,
        dead_after_us=dead_after_us, cluster=cluster, folder=folder,
    )  # fmt: skip
