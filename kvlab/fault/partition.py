"""Partitions: which directed links a network split cuts.

It cuts nothing and keeps no state: a `Partition` is a value that the laboratory applies.

Invariants of every Partition:

1. Its links join distinct nodes, hold none twice, and are in the order of the nodes given.
2. A split into groups is symmetric: (a, b) is cut exactly when (b, a) is. `one_way` is not.
3. At least one link is cut; what would cut none is a UsageError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kvlab.errors import UsageError
from kvlab.fault.selector import known
from kvlab.rng import Rng

Link = tuple[str, str]
"""One direction between two nodes: (from, to)."""

SHAPES = ("halves", "isolate", "minority", "bridge", "majorities-ring")
RING_NODES_MIN = 4
"""With fewer nodes every pair is needed for a majority, so nothing could be cut."""
BRIDGE_NODES_MIN = 3


@dataclass(frozen=True, slots=True)
class Partition:
    """A network split: the directed links to cut, and the groups if it has disjoint ones."""

    links: tuple[Link, ...]
    groups: tuple[tuple[str, ...], ...] = ()
    title: str = ""

    def __post_init__(self) -> None:
        if not self.links:
            raise UsageError(f"the partition {self.title or 'given'} would cut no link")


def parse_groups(text: str, nodes: Sequence[str]) -> Partition:
    """Read "server1,server2 | server3,server4,server5"; nodes not named form a last group.

    Raises UsageError on an unknown node, a node in two groups, an empty group, or a single
    group that has no counterpart.
    """
    groups = [[name.strip() for name in group.split(",")] for group in text.split("|")]
    if any(not name for group in groups for name in group):
        raise UsageError(
            f'an empty place in the groups "{text}"',
            hint='write two groups with a bar between: "server1,server2 | server3"',
        )
    return split(groups, nodes)


def split(groups: Iterable[Iterable[str]], nodes: Sequence[str]) -> Partition:
    """Cut every link between different groups; nodes not named form a last group."""
    named = [_checked(group, nodes) for group in groups]
    seen: set[str] = set()
    for group in named:
        for node in group:
            if node in seen:
                raise UsageError(f"{node} is in more than one group; a node has one side")
            seen.add(node)
    rest = tuple(node for node in nodes if node not in seen)
    sides = tuple(group for group in (*named, rest) if group)
    if len(sides) < 2:
        raise UsageError(
            "one group with every node in it is no partition",
            hint='write two groups with a bar between: "server1,server2 | server3"',
        )
    side_of = {node: index for index, side in enumerate(sides) for node in side}
    title = " | ".join(",".join(side) for side in sides)
    return Partition(_links(nodes, lambda a, b: side_of[a] != side_of[b]), sides, title)


def one_way(sources: Iterable[str], targets: Iterable[str], nodes: Sequence[str]) -> Partition:
    """Cut the links from every source to every target, and not the way back."""
    from_, to = _checked(sources, nodes), _checked(targets, nodes)
    title = f"{','.join(from_)} -> {','.join(to)}"
    return Partition(_links(nodes, lambda a, b: a in from_ and b in to), (), title)


def halves(nodes: Sequence[str]) -> Partition:
    """Cut the first half off; with an odd number the first part is the smaller one."""
    return split([tuple(nodes[: len(nodes) // 2]) or tuple(nodes)], nodes)


def isolate(node: str, nodes: Sequence[str]) -> Partition:
    """Cut one node off from all others."""
    return split([(node,)], nodes)


def minority(nodes: Sequence[str], rng: Rng) -> Partition:
    """Cut a drawn minority off: the largest group smaller than half."""
    count = (len(nodes) - 1) // 2
    if count == 0:
        raise UsageError("a minority needs at least 3 nodes", hint="use halves or isolate")
    return split([rng.pick(nodes, count)], nodes)


def bridge(nodes: Sequence[str]) -> Partition:
    """Cut two halves apart, except for the node in the middle, which both can reach.

    The shape of Jepsen's `bridge` nemesis: no two halves agree on who is dead.
    """
    if len(nodes) < BRIDGE_NODES_MIN:
        raise UsageError(f"a bridge needs at least {BRIDGE_NODES_MIN} nodes")
    middle = len(nodes) // 2
    left, right = set(nodes[:middle]), set(nodes[middle + 1 :])
    links = _links(nodes, lambda a, b: (a in left and b in right) or (a in right and b in left))
    return Partition(links, (), f"bridge over {nodes[middle]}")


def majorities_ring(nodes: Sequence[str]) -> Partition:
    """Leave each node a majority, no two the same: on a circle each reaches only its neighbours.

    The symmetric form of Jepsen's `majorities-ring`. The reach is the smallest number of
    neighbours on each side that makes a majority together with the node itself.
    """
    count = len(nodes)
    if count < RING_NODES_MIN:
        raise UsageError(f"a ring of majorities needs at least {RING_NODES_MIN} nodes")
    reach = (count // 2 + 1) // 2
    at = {node: index for index, node in enumerate(nodes)}

    def far(a: str, b: str) -> bool:
        steps = (at[a] - at[b]) % count
        return min(steps, count - steps) > reach

    return Partition(_links(nodes, far), (), "ring of majorities")


def shape(name: str, nodes: Sequence[str], rng: Rng, *, subject: str | None = None) -> Partition:
    """Build a partition by the name of its shape (SHAPES).

    `isolate` takes its node from `subject` or draws one. `minority` draws its members. The others
    are laid over a drawn order of the nodes, so that each run meets another arrangement.
    """
    if name == "isolate":
        return isolate(subject if subject is not None else rng.choice(list(nodes)), nodes)
    if name == "minority":
        return minority(nodes, rng)
    build = {"halves": halves, "bridge": bridge, "majorities-ring": majorities_ring}.get(name)
    if build is None:
        raise UsageError(
            f'no partition shape is called "{name}"', hint=f"shapes are: {', '.join(SHAPES)}"
        )
    drawn = build(rng.sample(list(nodes), len(nodes)))
    cut = set(drawn.links)
    return Partition(_links(nodes, lambda a, b: (a, b) in cut), drawn.groups, drawn.title)


def _links(nodes: Sequence[str], is_cut: Callable[[str, str], bool]) -> tuple[Link, ...]:
    return tuple((a, b) for a in nodes for b in nodes if a != b and is_cut(a, b))


def _checked(group: Iterable[str], nodes: Sequence[str]) -> tuple[str, ...]:
    """Drop repetitions within one group; raise UsageError on a node that does not exist."""
    members = tuple(dict.fromkeys(group))
    for node in members:
        if node not in nodes:
            raise UsageError(f'no node is called "{node}"; the nodes are {known(nodes)}')
    return members
