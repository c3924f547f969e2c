"""Tables about the network between nodes: active faults with their proof, and every link.

It does not know how a fault is made; it shows the supervisor's `faults` answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kvlab.report.table import Column, Table, table
from kvlab.units import format_count, format_duration, format_size

LINKS_SHOWN_MAX = 4  # a partition of 50 nodes cuts hundreds of links; the count says enough


def faults_table(answer: Mapping[str, Any]) -> Table:
    """Show the active faults, each with its age and the evidence that it bites."""
    faults: Sequence[Mapping[str, Any]] = answer["faults"]
    rows = [
        (
            str(fault["id"]),
            str(fault["kind"]),
            str(fault.get("detail") or ""),
            format_duration(fault["since_us"]),
            link_names(fault.get("links") or []),
            evidence_text(fault.get("evidence") or {}),
        )
        for fault in faults
    ]
    columns = (
        Column("FAULT", right=True),
        Column("KIND", style="bold red"),
        Column("DETAIL"),
        Column("SINCE", right=True),
        Column("LINKS", rank=1),
        Column("EVIDENCE"),
    )
    count = f"{len(rows)} active fault{'s' * (len(rows) != 1)}" if rows else "no active faults"
    return table(count, columns, rows)


def links_table(answer: Mapping[str, Any]) -> Table:
    """Show every directed link: what passed, what is held back, which rule stands on it."""
    rows = [
        (
            str(link["from"]),
            str(link["to"]),
            format_count(link["connections"]),
            format_size(link["bytes"]),
            format_size(link["held_bytes"]),
            format_count(link["refused"]),
            format_count(link["resets"]),
            str(link.get("rule") or ""),
        )
        for link in answer["links"]
    ]
    columns = (
        Column("FROM"),
        Column("TO"),
        Column("CONNECTIONS", right=True, rank=1),
        Column("PASSED", right=True),
        Column("HELD", right=True),
        Column("REFUSED", right=True),
        Column("RESETS", right=True),
        Column("RULE", styles={"clean": "dim"}, style="yellow"),
    )
    return table(f"{len(rows)} links" if rows else "no links", columns, rows)


def cut_table(cut: Sequence[Sequence[str]]) -> Table:
    """Show directed links that were cut, one row for each sender."""
    unreachable: dict[str, list[str]] = {}
    for source, target in cut:
        unreachable.setdefault(source, []).append(target)
    rows = [(source, ", ".join(targets)) for source, targets in sorted(unreachable.items())]
    columns = (Column("NODE"), Column("CANNOT SEND TO", style="red"))
    return table(f"cut {len(cut)} link{'s' * (len(cut) != 1)}", columns, rows)


def fault_notes(faults: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Say each active fault in one line, for the foot of another table."""
    return tuple(
        f"fault {fault['id']}: {fault['kind']} {fault.get('detail') or ''}".rstrip()
        for fault in faults
    )


def link_names(links: Sequence[Sequence[str]]) -> str:
    """Name directed links: "a>b, b>a"; long lists end in a count."""
    shown = [f"{source}>{target}" for source, target in links[:LINKS_SHOWN_MAX]]
    rest = len(links) - len(shown)
    if rest:
        shown.append(f"and {rest} more")
    return ", ".join(shown)


def evidence_text(evidence: Mapping[str, Any]) -> str:
    """Say the counters that prove a fault; without any it has not bitten yet."""
    parts = [f"{name} {value}" for name, value in sorted(evidence.items()) if value]
    return ", ".join(parts) if parts else "none yet"
