"""What a load run measured, as tables and as JSON.

It measures and prints nothing: a LoadResult comes in, values go out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvlab.report.latency import cells, show_us, summarize
from kvlab.report.table import Column, Table, table

if TYPE_CHECKING:
    from kvlab.lab.load_result import Latencies, LoadResult

US_PER_S = 1_000_000
FEW = 10_000  # values that p99.9 needs
UNCERTAIN = {"timeout", "reset", "closed by node", "UNKNOWN", "bad reply"}
SERVICE = "service (from send)"
RESPONSE = "response (from intended time)"
LATENESS = "generator lateness"


def tables(result: LoadResult, title: str) -> list[Table]:
    """Return everything a person wants to see of a run."""
    shown = [_summary(result, title), _latencies(result)]
    if result.errors:
        shown.append(_errors(result))
    if len(result.nodes) > 1:
        shown.append(_nodes(result))
    return shown


def warnings(result: LoadResult) -> list[str]:
    """Return plain sentences about what makes the numbers less than they seem."""
    found = []
    if result.interrupted:
        found.append("interrupted: these numbers are of the time until then")
    if result.response is None and result.generator_limited:
        found.append(
            f"the generator used {result.generator_busy:.0%} of a core: it may have been the"
            " bottleneck, not the servers; try --processes 2 where there are idle cores"
        )
    if result.generator_late and result.lateness is not None:
        p99_us = summarize(result.lateness.values_us, result.lateness.counts).p99_us
        found.append(
            f"the generator itself was late (p99 {show_us(p99_us)}): do not trust these response"
            " times; lower --rate or use --processes"
        )
    if result.not_issued:
        found.append(
            f"{result.not_issued:,} operations were due but never sent: the servers did not keep up"
            " with the rate; response times leave them out"
        )
    if not result.answered:
        found.append("no request was answered: there are no latencies")
    return found


def to_builtins(result: LoadResult) -> dict[str, Any]:
    """Return the result as plain values for JSON: times in microseconds."""
    return {
        "elapsed_us": result.elapsed_us,
        "per_second": round(result.per_second, 1),
        "ok": result.ok,
        "missing": result.missing,
        "errors": result.errors,
        "unsent": result.unsent,
        "not_issued": result.not_issued,
        "refused_connects": result.refused_connects,
        "nodes": {
            name: {"answered": node.answered, "errors": node.errors, "connects": node.connects}
            for name, node in result.nodes.items()
        },
        "service": _percentiles(result.service),
        "response": None if result.response is None else _percentiles(result.response),
        "lateness": None if result.lateness is None else _percentiles(result.lateness),
        "generator_busy": round(result.generator_busy, 3),
        "generator_limited": result.response is None and result.generator_limited,
        "generator_late": result.generator_late,
        "processes": result.processes,
        "interrupted": result.interrupted,
        "notes": list(result.notes),
        "warnings": warnings(result),
    }


def _percentiles(latencies: Latencies) -> dict[str, Any]:
    summary = summarize(latencies.values_us, latencies.counts)
    return {name: getattr(summary, name) for name in summary.__struct_fields__}


def _summary(result: LoadResult, title: str) -> Table:
    columns = [Column("time"), Column("requests/s", right=True), Column("answered", right=True)]
    columns += [Column("of them no such key", right=True), Column("errors", right=True)]
    row = [
        f"{result.elapsed_us / US_PER_S:.2f} s",
        f"{result.per_second:,.0f}",
        f"{result.answered:,}",
        f"{result.missing:,}",
        f"{result.failed:,}",
    ]
    if result.response is not None:
        columns.append(Column("not issued", right=True))
        row.append(f"{result.not_issued:,}")
    return table(title, columns, [row])


def _latencies(result: LoadResult) -> Table:
    names = ("n", "p50", "p90", "p99", "p99.9", "max")
    columns = [Column("latency"), *(Column(name, right=True) for name in names)]
    parts: list[tuple[str, Latencies | None]] = [
        (RESPONSE, result.response),
        (SERVICE, result.service),
        (LATENESS, result.lateness),
    ]
    rows = [
        cells(name, summarize(part.values_us, part.counts))
        for name, part in parts
        if part is not None
    ]
    few = result.answered < FEW
    notes = [f"p99.9 is shown from {FEW:,} requests on, p99 from 1,000"] if few else []
    return table("", columns, rows, *notes)


def _errors(result: LoadResult) -> Table:
    rows = [
        (kind, f"{count:,}", "maybe" if kind in UNCERTAIN else "no")
        for kind, count in sorted(result.errors.items(), key=lambda item: -item[1])
    ]
    columns = [Column("error"), Column("count", right=True), Column("did it happen")]
    return table("", columns, rows)


def _nodes(result: LoadResult) -> Table:
    total = result.answered or 1
    rows = [
        (
            name,
            f"{node.answered:,}",
            f"{node.answered / total:.1%}",
            f"{node.errors:,}",
            str(node.connects),
        )
        for name, node in result.nodes.items()
    ]
    columns = [Column("connected to")]
    columns += [Column(name, right=True) for name in ("answered", "share", "errors", "connects")]
    return table("", columns, rows)
