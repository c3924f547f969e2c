"""What `kvlab check` found, as tables: verdicts, the operations that prove them, figures.

It judges nothing: the verdicts come from `check`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kvlab.check.verdict import Check
from kvlab.history import Op
from kvlab.report.table import Column, Table, table
from kvlab.units import format_count, format_duration

EVIDENCE_SHOWN = 20  # operations of one check; --json has them all
VALUE_CHARS = 40


def size_text(operations: int, clients: int, keys: int) -> str:
    """Say how much a history holds."""
    return f"{_many(operations, 'operation')} by {_many(clients, 'client')} on {_many(keys, 'key')}"


def _many(count: int, what: str) -> str:
    return f"{format_count(count)} {what}{'' if count == 1 else 's'}"


def evidence_table(check: Check, ops: Sequence[Op]) -> Table:
    """Show the operations that prove a verdict, in the order in which they began.

    EVENT is the place of the invocation in the history, counted from 0.
    """
    rows = [
        (
            str(op.start),
            op.client,
            op.node,
            what_text(op),
            result_text(op),
            _time(op.start_us),
            "never" if op.end_us is None else _time(op.end_us),
        )
        for op in sorted(ops, key=lambda op: op.start)[:EVIDENCE_SHOWN]
    ]
    columns = (
        Column("EVENT", right=True),
        Column("CLIENT"),
        Column("NODE", quiet=""),
        Column("OPERATION"),
        Column("RESULT"),
        Column("BEGAN", right=True),
        Column("ENDED", right=True),
    )
    more = len(ops) - EVIDENCE_SHOWN
    notes = [f"and {more} more (--json has all)"] if more > 0 else []
    return table(f"{check.name}: the operations that show it", columns, rows, *notes)


def operation(op: Op) -> dict[str, Any]:
    """Return an operation for JSON; `i` is the place of its invocation in the history."""
    told: dict[str, Any] = {
        "i": op.start,
        "client": op.client,
        "op": op.op,
        "f": op.f,
        "key": op.key,
        "value": op.value,
        "outcome": op.outcome,
        "began_us": op.start_us,
        "ended_us": op.end_us,
    }
    if op.f == "cas":
        told["expected"] = op.expected
    more = {"node": op.node, "error": op.error, "version": op.version, "final": op.final}
    return told | {name: value for name, value in more.items() if value}


def list_table(summaries: Mapping[str, str], default: Sequence[str]) -> Table:
    """Show every check: what it asks, and whether it runs unasked."""
    rows = [(name, "yes" if name in default else "no", said) for name, said in summaries.items()]
    columns = (Column("CHECK"), Column("UNASKED"), Column("ASKS WHETHER"))
    return table("checks", columns, rows)


def figures_tables(check: Check) -> list[Table]:
    """Show the figures of a check: single ones by name, rows of them as tables of their own."""
    single = [
        (_label(name), _figure(name, value))
        for name, value in check.figures.items()
        if not isinstance(value, list)
    ]
    found = []
    if single:
        columns = (Column("FIGURE"), Column("VALUE", right=True))
        found.append(table(f"figures of {check.name}", columns, single))
    for name, rows in check.figures.items():
        if isinstance(rows, list) and rows:
            headings = [Column(_label(field).upper(), right=True) for field in rows[0]]
            cells = [tuple(_figure(field, row[field]) for field in row) for row in rows]
            found.append(table(f"{check.name}: {_label(name)}", headings, cells))
    return found


def _label(name: str) -> str:
    return name.removesuffix("_us").replace("_", " ")


def _figure(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("_us"):
        return format_duration(value)
    if isinstance(value, float):
        return f"{value:.3%}"
    return format_count(value) if isinstance(value, int) else str(value)


def what_text(op: Op) -> str:
    """Say what was asked: `set k1 v1`, `cas k1 v1 -> v2`, `get k1 (final)`."""
    if op.f == "cas":
        return f"cas {op.key} {_shown(op.expected)} -> {_shown(op.value)}"
    if op.f in {"get", "delete"}:
        return f"{op.f} {op.key}{' (final)' if op.final else ''}"
    return f"{op.f} {op.key}{'' if op.value is None else f' {_shown(op.value)}'}"


def result_text(op: Op) -> str:
    """Say what came of it: the value that was read, `ok`, `failed (NO_QUORUM)`, `unknown`."""
    if op.outcome == "ok" and op.f == "get":
        text = "nothing" if op.value is None else _shown(op.value)
    else:
        text = {"ok": "ok", "fail": "failed", "info": "unknown"}[op.outcome]
        text += f" ({op.error})" if op.error else ""
    return text + (" degraded" if op.degraded else "")


def _shown(value: str | None) -> str:
    if value is None:
        return "nothing"
    cut = value if len(value) <= VALUE_CHARS else f"{value[: VALUE_CHARS - 1]}…"
    return cut if cut.isprintable() and cut else repr(cut)


def _time(us: int) -> str:
    return f"{us / 1e6:.6f}s"
