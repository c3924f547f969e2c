"""When nodes have come to rest: linked, moving nothing, comparing nothing, equal. It only looks.

It waits for nothing; `world` asks until it is so.
"""

from __future__ import annotations

from kvlab.kv.node import Node


def why_restless(node: Node, nodes: dict[str, Node]) -> str:
    """Say what keeps one of these nodes from being at rest, or return ""."""
    state = node.state
    current = state.map
    if current is None or not node.membership.is_ready:
        return f"is not ready: {node.membership.starting()}"
    missing = [one for one in current.members if one.id not in nodes]
    if missing:
        return f"knows {missing[0].id}, which does not run"
    apart = [one.id for one in current.members if one.id != state.settings.id]
    apart = [one for one in apart if one not in state.up]
    if apart:
        return f"has no link to {apart[0]}"
    if current.joint_ranges():
        return "has ranges that move"
    return node.transfers.why_busy()


def differing(nodes: dict[str, Node]) -> list[str]:
    """Return where replicas of a range hold different records: sentences, none if all are equal."""
    found = []
    current = next(iter(nodes.values())).state.map if nodes else None
    for index, place in enumerate(current.ranges if current is not None else ()):
        tables = {
            name: {
                key: (version, value)
                for key, (version, value, _) in nodes[name].state.table.ranges[index].items()
            }
            for name in place.replicas
            if name in nodes
        }
        first, *rest = tables.items()
        for name, table in rest:
            if table != first[1]:
                keys = [key for key in {**table, **first[1]} if table.get(key) != first[1].get(key)]
                shown = keys[0].decode(errors="replace")
                found.append(
                    f"{first[0]} and {name} differ in range {index}, for example in {shown}:"
                    f" {first[1].get(keys[0])} and {table.get(keys[0])}"
                )
    return found
