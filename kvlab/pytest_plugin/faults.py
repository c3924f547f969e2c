"""The faults of the matrix by name: how each begins and ends on a cluster. One node of it is hit.

More can be done with the verbs of `cluster.Cluster`; these are what every client should survive. A
function that does such things is a fault, too, if it is a context manager of the cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kvlab.errors import UsageError

if TYPE_CHECKING:
    from kvlab.pytest_plugin.cluster import Cluster

SLOW_MS = 200.0


@dataclass(frozen=True, slots=True)
class Kind:
    """How a fault begins and ends, given the cluster and the node that it hits."""

    begin: Callable[[Cluster, str], object]
    end: Callable[[Cluster, str], object]


def _slow(cluster: Cluster, node: str) -> None:
    for other in cluster.nodes:
        if other != node:
            cluster.link(node, other, latency_ms=SLOW_MS)


def _others(cluster: Cluster, node: str) -> str:
    return ",".join(one for one in cluster.nodes if one != node)


def _nothing(_cluster: Cluster, _node: str) -> None:
    """Do nothing."""


def _heal(cluster: Cluster, _node: str) -> None:
    cluster.heal()


FAULTS: dict[str, Kind] = {
    "none": Kind(_nothing, _nothing),
    "kill": Kind(
        lambda cluster, node: cluster.kill(node), lambda cluster, node: cluster.start(node)
    ),
    "pause": Kind(
        lambda cluster, node: cluster.pause(node), lambda cluster, node: cluster.resume(node)
    ),
    "partition": Kind(
        lambda cluster, node: cluster.partition(f"{node} | {_others(cluster, node)}"), _heal
    ),
    "one-way": Kind(lambda cluster, node: cluster.cut(node, _others(cluster, node)), _heal),
    "slow": Kind(_slow, _heal),
    "restart": Kind(lambda cluster, _: cluster.restart("all"), _nothing),
}


Made = Callable[["Cluster"], AbstractContextManager[Any]]
"""A fault that somebody wrote: it is there inside the block that it gives for a cluster."""


class Fault:
    """One fault for one test. Leaving the block ends it, and waits until the cluster is whole."""

    def __init__(self, given: str | Made, cluster: Cluster) -> None:
        """`given` is a name, a name and a node ("kill server1"), or a function."""
        self.name = name_of(given)
        self.node = cluster.nodes[-1]  # that is hit: the last, where few clients begin
        self._cluster = cluster
        self._block: AbstractContextManager[Any] | None = None
        self._make = given if callable(given) else self._named
        if not callable(given) and (node := given.partition(" ")[2].strip()):
            if node not in cluster.nodes:
                raise UsageError(
                    f"no node is called {node!r}; there are {', '.join(cluster.nodes)}"
                )
            self.node = node

    @contextmanager
    def _named(self, cluster: Cluster) -> Any:
        kind, node = FAULTS[self.name.partition(" ")[0]], self.node
        kind.begin(cluster, node)
        try:
            yield
        finally:
            kind.end(cluster, node)

    def __enter__(self) -> Self:
        self._block = self._make(self._cluster)
        self._block.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._block is not None
        self._block.__exit__(kind, error, trace)
        self._cluster.wait_whole()

    def __repr__(self) -> str:
        return f"<fault {self.name} of {self.node}>"


def name_of(given: str | Made) -> str:
    """Return what a fault is called in the name of a test."""
    return getattr(given, "__name__", repr(given)) if callable(given) else given


def check_fault(given: object) -> None:
    """Raise UsageError for what is no fault."""
    if callable(given) or (isinstance(given, str) and given.partition(" ")[0] in FAULTS):
        return
    raise UsageError(f"no fault is called {given!r}; there are {', '.join(FAULTS)}")
