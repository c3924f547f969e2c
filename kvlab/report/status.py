"""Tables about nodes: the status of a cluster, and the proof that a node verb took effect.

It does not fetch anything: it takes the supervisor's answers (or the STATUS replies of nodes that
kvlab did not start) as plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kvlab.report.faults import fault_notes
from kvlab.report.table import Column, Table, table
from kvlab.units import format_count, format_duration, format_size

STATE_STYLES: Mapping[str, str] = {
    "running": "green",
    "starting": "yellow",
    "backoff": "yellow",
    "paused": "magenta",
    "stopped": "dim",
    "crashed": "bold red",
    "failed": "bold red",
    "unreachable": "bold red",
    "no answer": "red",
}

RANGES_SHOWN = 8  # of those in one phase; --json has all

_COLUMNS = (
    Column("NODE"),
    Column("STATE", styles=STATE_STYLES),
    Column("PID", right=True, rank=3),
    Column("ADDRESS", rank=1),
    Column("UPTIME", right=True, rank=2),
    Column("CPU", right=True, rank=5),
    Column("MEMORY", right=True, rank=4),
    Column("KEYS", right=True),
    Column("DATA", right=True, rank=3),
    Column("RANGES", right=True, rank=6),
    Column("MOVING", right=True, quiet="0", rank=1),
    Column("CLIENTS", right=True, rank=6),
    Column("EPOCH", right=True, rank=2),
    Column("PEERS DOWN", style="red", quiet=""),
    Column("RESTARTS", right=True, quiet="0", rank=2),
    Column("LAST EXIT", quiet="", rank=4),
)


def status_table(status: Mapping[str, Any]) -> Table:
    """Show a supervisor's `status` answer: one row a node, then what nodes lack, and the faults."""
    nodes: Sequence[Mapping[str, Any]] = status["nodes"]
    return table(
        _headline(status, nodes),
        _COLUMNS,
        [_status_row(node) for node in nodes],
        *_node_notes(nodes),
        *_movement_notes(nodes),
        *fault_notes(status.get("faults") or []),
    )


def unsupervised_status(
    addresses: Mapping[str, str], infos: Mapping[str, Mapping[str, Any] | None]
) -> dict[str, Any]:
    """Shape what nodes that kvlab did not start say like a supervisor's `status` answer.

    `addresses` maps node id -> "host:port"; `infos` node id -> STATUS info, None without answer.
    """
    nodes = []
    for node, address in addresses.items():
        host, _, port = address.rpartition(":")
        info = infos.get(node) or {}
        nodes.append(
            {
                "id": node,
                "state": "running" if info else "unreachable",
                "pid": info.get("pid"),
                "host": host,
                "port": int(port),
                "uptime_us": info.get("uptime_us"),
                "node": info or None,
            }
        )
    names = {info["cluster"] for info in infos.values() if info}
    return {"name": min(names, default=""), "pid": None, "faults": [], "nodes": nodes}


def proof_table(answer: Mapping[str, Any]) -> Table:
    """Show what a node verb did: state before and after, as the supervisor saw it happen."""
    rows = [
        (
            str(one["id"]),
            str(one["before"]),
            str(one["after"]),
            _text(one.get("pid")),
            format_duration(one["took_us"]),
            str(one.get("note") or ""),
        )
        for one in answer["proof"]
    ]
    columns = (
        Column("NODE"),
        Column("BEFORE", styles=STATE_STYLES),
        Column("AFTER", styles=STATE_STYLES),
        Column("PID", right=True),
        Column("TOOK", right=True),
        Column("NOTE"),
    )
    return table("", columns, rows)


def _node_notes(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say why nodes take no writes, or do not serve yet. Servers by others may tell neither."""
    notes = []
    for node in nodes:
        info = node.get("node") or {}
        if info.get("waits_for"):
            notes.append(f"{node['id']}: {info['waits_for']}")
        if info.get("refusal"):
            notes.append(f"{node['id']} takes no writes: {info['refusal']}")
    return notes


def _movement_notes(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tell the ranges on their way, those together that are in one phase for one reason."""
    notes = []
    for node in nodes:
        groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
        for one in (node.get("node") or {}).get("movements") or ():
            key = (one["phase"], one["source"], one["waits_for"])
            groups.setdefault(key, []).append(one)
        for (phase, source, waits_for), found in groups.items():
            told = [f"{node['id']}: {len(found)} {phase} {_ranges(found)}"]
            if source:
                told.append(f"from {source}")
            left = sum(max(0, one["left_bytes"]) for one in found)
            if phase == "copying" and left:
                told.append(f"{format_size(left)} left")
            if waits_for:
                told.append(f"waits for {waits_for}")
            notes.append(", ".join(told))
    return notes


def _ranges(found: Sequence[Mapping[str, Any]]) -> str:
    """Name ranges, the first few of many."""
    numbers = sorted(one["range"] for one in found)
    more = ",..." if len(numbers) > RANGES_SHOWN else ""
    return f"(range{'s' * (len(numbers) != 1)} {_join(numbers[:RANGES_SHOWN])}{more})"


def _headline(status: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> str:
    running = sum(node["state"] == "running" for node in nodes)
    infos = [node["node"] for node in nodes if node.get("node")]
    epochs = sorted({info["epoch"] for info in infos if "epoch" in info})
    parts = [f"{running} of {len(nodes)} nodes running"]
    if epochs:
        parts.append(f"epoch {epochs[0]}" if len(epochs) == 1 else f"epochs {_join(epochs)}")
    faults = len(status.get("faults") or [])
    parts.append("no faults" if not faults else f"{faults} fault{'s' * (faults != 1)}")
    if status.get("pid"):
        parts.append(f"supervisor {status['pid']} up {format_duration(status['uptime_us'])}")
    return f"{status.get('name') or 'cluster'}: {', '.join(parts)}"


def _status_row(node: Mapping[str, Any]) -> tuple[str, ...]:
    # A server by others may tell some of this, or none.
    info: Mapping[str, Any] = node.get("node") or {}
    down = sorted(name for name, seen in (info.get("peers") or {}).items() if seen != "up")
    # A running process that does not answer is worth a word of its own: it may hang.
    state = str(node["state"])
    if state == "running":
        state = "no answer" if not info else state if info.get("ready", True) else "starting"
    # Without a process there is no uptime, and 0 would read like a measurement.
    alive = node.get("pid") is not None
    uptime_us = node.get("uptime_us") if alive else None
    cpu = node.get("cpu_percent") if alive else None
    rss = node.get("rss_bytes") if alive else None
    return (
        str(node["id"]),
        state,
        _text(node.get("pid")),
        f"{node['host']}:{node['port']}",
        "" if uptime_us is None else format_duration(uptime_us),
        "" if cpu is None else f"{cpu:.0f}%",
        "" if rss is None else format_size(rss),
        format_count(info["keys"]) if "keys" in info else "",
        format_size(info["bytes"]) if "bytes" in info else "",
        *(_text(info.get(name)) for name in ("ranges", "moving", "connections", "epoch")),
        _join(down),
        _text(node.get("restarts")),
        str(node.get("last_exit") or ""),
    )


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _join(values: Sequence[object]) -> str:
    return ",".join(str(value) for value in values)
