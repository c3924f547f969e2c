"""The faults of the matrix by name: how each begins and ends on a cluster. One node of it is hit.

More can be done with the verbs of `cluster.Cluster`; these are what every client should survive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

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


class Fault:
    """One fault for one test. Leaving the block ends it, and waits until the cluster is whole."""

    def __init__(self, name: str, kind: Kind, cluster: Cluster) -> None:
        self.name = name
        self.node = cluster.nodes[-1]  # that is hit: the last, where few clients begin
        self._kind = kind
        self._cluster = cluster

    def __enter__(self) -> Self:
        self._kind.begin(self._cluster, self.node)
        return self

    def __exit__(self, *_: object) -> None:
        self._kind.end(self._cluster, self.node)
        self._cluster.wait_whole()

    def __repr__(self) -> str:
        return f"<fault {self.name} of {self.node}>"
