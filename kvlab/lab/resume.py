"""How a cluster begins: anew, or as the one whose data is there. A pure decision; it starts nothing.

A cluster goes on where its file still describes it. What cannot be changed under data that lies there
is refused, with what to write; it is never left out in silence.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvlab.errors import KvlabError, SpecError, UsageError
from kvlab.lab.kept import FRESH, Kept, KeptNode
from kvlab.spec import ClusterSpec, NodeSpec
from kvlab.units import format_count


@dataclass(frozen=True)
class Beginning:
    """The nodes that a start begins with, and those that join when these serve."""

    nodes: tuple[KeptNode, ...]
    joining: tuple[NodeSpec, ...] = ()
    removed: frozenset[str] = frozenset()
    is_resumed: bool = False
    notes: tuple[str, ...] = ()


def anew(spec: ClusterSpec, *notes: str) -> Beginning:
    """Begin with the nodes of the file, and no data."""
    nodes = tuple(_seat(node, index) for index, node in enumerate(spec.nodes, 1))
    return Beginning(nodes, notes=notes)


def go_on(spec: ClusterSpec, kept: Kept, *, engine: str, is_ours: bool, file: str) -> Beginning:
    """Begin with the members that there were.

    Raises SpecError with everything in the file called `file` that does not fit their data.
    """
    problems = _problems(spec, kept, engine, is_ours=is_ours)
    members = {node.id: node for node in kept.nodes}
    in_file = {node.id: node for node in spec.nodes}
    seats, notes = [], []
    for seat in kept.nodes:
        node = in_file.get(seat.id)
        if node is not None:
            problems += _moved(node, seat)
            notes += _unheeded(node, seat)
        elif not seat.added and not seat.leaving:
            problems.append(
                f"{seat.id} is not in the file, and holds a part of the data: write it back, then"
                f" kvlab up and kvlab remove {seat.id}"
            )
        seats.append(seat)
    removed = frozenset(kept.removed) - members.keys()
    joining = []
    for node in spec.nodes:
        if node.id in members:
            continue
        if node.id in removed:
            notes.append(
                f"{node.id} stays out: it left by kvlab remove; kvlab add {node.id} takes it in"
            )
        else:
            joining.append(node)
            notes.append(f"{node.id} is new in the file: it joins, and gets its share of the data")
    if problems:
        count = f"{format_count(len(problems))} problem{'s' * (len(problems) != 1)}"
        raise SpecError(
            f"{file} does not fit the data of {spec.name} ({count})",
            problems=tuple(f"{file}: {one}" for one in problems),
            hint=f"or begin anew, without the data: {FRESH}",
        )
    return Beginning(tuple(seats), tuple(joining), removed, is_resumed=True, notes=tuple(notes))


def renamed(old: str, new: str, file: str) -> KvlabError:
    """Return the error of a file whose cluster had another name, under which its data lies."""
    return UsageError(
        f"the data of {file} is that of a cluster called {old}, and the file says name: {new}",
        hint=f"write name: {old} back, or begin anew beside it, without the data: {FRESH}",
    )


def of_another_file(name: str, other: str, file: str) -> KvlabError:
    """Return the error of a file whose cluster has the name, and so the data, of another file's."""
    return UsageError(
        f"the data of a cluster called {name} is there, and it is that of {other}, not of {file}",
        hint=f"give this one another name: in its file, or remove that data: {FRESH}",
    )


def unnamed(folder: str) -> KvlabError:
    """Return the error of data without a record of whose it is."""
    return UsageError(
        f"there is data in {folder}, and no cluster.json that says which members it belongs to",
        hint=f"begin anew without it ({FRESH}), or move it away first",
    )


def _seat(node: NodeSpec, index: int) -> KeptNode:
    return KeptNode(
        id=node.id,
        host=node.host,
        port=node.port,
        weight=node.weight,
        rack=node.rack,
        index=index,
    )


def _problems(spec: ClusterSpec, kept: Kept, engine: str, *, is_ours: bool) -> list[str]:
    """Say what of the whole cluster is not as it was."""
    problems = []
    if kept.engine != engine:
        problems.append(f"engine is {engine} now, and cannot read the data of {kept.engine}")
    elif is_ours:
        if kept.ranges != spec.ranges:
            problems.append(f"ranges cannot change: write ranges: {kept.ranges}")
        if kept.copies != spec.replication.n:
            problems.append(f"replication.n cannot change: write n: {kept.copies}")
    if kept.shims != spec.network.shims:
        was = "true" if kept.shims else "false"
        problems.append(
            f"members know each other's addresses by network.shims: {was}: write it back"
        )
    return problems


def _moved(node: NodeSpec, seat: KeptNode) -> list[str]:
    """Say that a member would not be where others look for it."""
    is_there = node.host == seat.host and node.port in {0, seat.port}
    if is_there:
        return []
    return [f'{seat.id} is known at another address: write addr: "{seat.host}:{seat.port}"']


def _unheeded(node: NodeSpec, seat: KeptNode) -> list[str]:
    """Say what of a member is as it was when it joined, whatever the file says now."""
    was = []
    if node.weight != seat.weight:
        was.append(f"weight {seat.weight:g}")
    if node.rack != seat.rack:
        was.append(f"rack {seat.rack or 'none'}")
    return [f"{seat.id} keeps {one}: it is set when a node joins" for one in was]
