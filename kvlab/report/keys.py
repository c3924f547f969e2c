"""Where keys belong by the map, and where they really are by what each node says it holds.

It asks no node: it takes their INSPECT answers as plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kvlab.report.table import Column, Table, table
from kvlab.units import format_size

Inspected = Mapping[str, Mapping[str, Any] | None]  # node id -> INSPECT info; None: no answer
Version = tuple[int, str]
NO_VERSION: Version = (0, "")

STATE_STYLES: Mapping[str, str] = {
    "present": "green",
    "missing": "bold red",
    "stale": "yellow",
    "extra": "cyan",
    "no answer": "red",
}


def key_facts(key: str, inspected: Inspected) -> dict[str, Any]:
    """Merge what all nodes say of one key.

    Returns {"key", "slot", "range", "owners", "next", "nodes": [{"id", "role", "state", "version",
    "bytes", "tombstone"}]}. `role` is owner, next or other; `state` is present, stale (an older
    version than the newest seen), missing (an owner without it while others have it), extra (held
    though the map asks for it elsewhere), absent, or no answer. Raises ValueError when no node
    answered.
    """
    answers = [info for info in inspected.values() if info]
    if not answers:
        raise ValueError("no node answered")
    first = answers[0]
    owners = list(first["owners"])
    following = list(first["next"]) if first["next"] else None
    newest = max((_version(info) for info in answers if _held(info)), default=NO_VERSION)
    order = [*owners, *(one for one in following or [] if one not in owners)]
    others = sorted(one for one in inspected if one not in order)
    nodes = []
    for node in [*order, *others]:
        role = "owner" if node in owners else "next" if node in order else "other"
        info = inspected.get(node)
        state = _state(role, info, newest)
        if role == "other" and state == "absent":
            continue
        held = info if info and _held(info) else None
        nodes.append(
            {
                "id": node,
                "role": role,
                "state": state,
                "version": str(held["version"]) if held else None,
                "bytes": held["bytes"] if held else None,
                "tombstone": bool(held["tombstone"]) if held else False,
            }
        )
    return {
        "key": key,
        "slot": first["slot"],
        "range": first["range"],
        "owners": owners,
        "next": following,
        "nodes": nodes,
    }


def keys_table(facts: Sequence[Mapping[str, Any]]) -> Table:
    """Show key facts: one row for each key and node."""
    rows = [
        (
            str(fact["key"]),
            str(fact["slot"]),
            str(fact["range"]),
            str(node["id"]),
            str(node["role"]),
            str(node["state"]),
            "deleted" if node["tombstone"] else "",
            str(node["version"] or ""),
            "" if node["bytes"] is None else format_size(node["bytes"]),
        )
        for fact in facts
        for node in fact["nodes"]
    ]
    columns = (
        Column("KEY"),
        Column("SLOT", right=True),
        Column("RANGE", right=True),
        Column("NODE"),
        Column("ROLE"),
        Column("STATE", styles=STATE_STYLES),
        Column("MARK", quiet=""),
        Column("VERSION"),
        Column("SIZE", right=True),
    )
    notes = [
        f"{fact['key']}: range {fact['range']} is moving to {', '.join(fact['next'])}"
        for fact in facts
        if fact["next"]
    ]
    return table("", columns, rows, *notes)


def _held(info: Mapping[str, Any]) -> bool:
    return bool(info["present"] or info["tombstone"])


def _version(info: Mapping[str, Any]) -> Version:
    """Return a version that compares by age: they are written as decimal numbers."""
    text = str(info["version"])
    return len(text), text


def _state(role: str, info: Mapping[str, Any] | None, newest: Version) -> str:
    if info is None:
        return "no answer"
    if not _held(info):
        # A node that the range moves to may not have it yet: that is not a loss.
        return "missing" if role == "owner" and newest > NO_VERSION else "absent"
    if _version(info) < newest:
        return "stale"
    return "extra" if role == "other" else "present"
