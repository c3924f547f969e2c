"""A run as one page: verdict, charts, tables. It writes no file, and the page asks no network.

Texts of a history are anybody's: the template escapes every one of them, and figures go in as JSON.

The parts of the page (template, style, script, the chart library) come in as `Parts`; they are files
of the package, which only the command line may read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from kvlab.check.columns import Columns
from kvlab.check.columns import Table as Operations
from kvlab.check.verdict import Check, Verdict
from kvlab.history import Op
from kvlab.report.check import evidence_table, size_text
from kvlab.report.clients import clients_chart, proof_chart, shares_chart
from kvlab.report.demo import checks_table
from kvlab.report.figure_parts import Figure
from kvlab.report.moves import changes_table, merge_moves, moves_table
from kvlab.report.overview import overview
from kvlab.report.phases import phase_latency_table
from kvlab.report.record import RunRecord
from kvlab.report.series import Work, work_of
from kvlab.report.sim import faults_table
from kvlab.report.table import Column, Table, table
from kvlab.report.timeline import Timeline, timeline_of
from kvlab.units import format_duration

PROOF_OPS_MAX: Final = 12
KEYS_SHOWN: Final = 10
NODES_SHOWN: Final = 30
SPEC_CHARS_MAX: Final = 100_000
LEGENDS: Final = {
    "faults": [("felt", "fault"), ("unfelt", "fault that nobody felt")],
    "outcomes": [
        ("ok", "ok"),
        ("degraded", "ok, from fewer copies than asked"),
        ("failed", "failed: it did not happen"),
        ("unknown", "unknown: it may have happened"),
    ],
    "lines": [("line p50", "p50"), ("line p99", "p99"), ("line max", "max")],
}
_WORDS: Final = ("valid", "invalid", "unknown", "holds", "broken", "felt")


@dataclass(frozen=True, slots=True)
class Parts:
    """The files that a page is made of: texts, and the library as base64 of gzip."""

    template: str
    css: str
    script: str
    library: str
    version: str  # of kvlab


def report_html(run: RunRecord, parts: Parts) -> str:
    """Return the page of a run as one HTML document."""
    from jinja2 import Environment
    from markupsafe import Markup

    context = _context(run)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(parts.template).render(
        **context,
        words=_WORDS,
        legends=LEGENDS,
        version=parts.version,
        css=Markup(parts.css),  # noqa: S704 - a file of the package
        script=Markup(parts.script),  # noqa: S704 - a file of the package
        library=parts.library,
    )


def _context(run: RunRecord) -> dict[str, Any]:
    columns, span = run.columns, run.span_us
    work = work_of(columns)
    figures: dict[str, Figure] = {}
    proofs = _proofs(run, figures)
    notes: list[str] = []
    if len(work):
        figures["overview"], notes = overview(columns, work, run.faults, run.phases, span)
    chosen = timeline_of(columns, run.faults, run.evidence(), run.phases[-1][2])
    if len(chosen.chosen):
        figures["clients"] = clients_chart(columns, chosen, run.faults, span)
    keys = _shares(columns, work, figures)
    held = run.ring.get("keys") or {}
    if any(held.values()):
        figures["held"] = shares_chart(
            list(held), list(held.values()), sum(held.values()), "copies of keys"
        )
    return {
        "title": run.name,
        "ran": run.path,
        "verdict": run.word,
        "expected": _expected(run),
        "because": run.because,
        "reproduce": str(run.verdict.get("reproduce") or ""),
        "facts": _facts(run, len(work), len(chosen.lanes) + chosen.clients_left_out),
        "figures": figures,
        "proofs": proofs,
        "overview_notes": notes,
        "phases": phase_latency_table(run.figures()) if len(work) else None,
        "checks": _checks(run),
        "guards": _guards(run),
        "clients_notes": _clients_notes(chosen),
        "windows": _windows(chosen),
        "faults": faults_table(run.faults) if run.faults else None,
        "ring": _movement(run),
        "keys_title": keys,
        "environment": _environment(run),
        "spec": run.spec_text[:SPEC_CHARS_MAX],
        "notes": run.notes,
    }


# -- the head of the page -------------------------------------------------------------------------


def _expected(run: RunRecord) -> str:
    expect = str(run.verdict.get("expect") or "valid")
    if expect == "valid" or not run.verdict:
        return ""
    return "as expected" if run.word == expect else f"expected: {expect}"


def _facts(run: RunRecord, operations: int, clients: int) -> list[tuple[str, str]]:
    size = size_text(operations, clients, len(run.columns.keys))
    facts = [("history", size), ("clients worked for", format_duration(run.span_us))]
    if run.spec is not None:
        facts.append(("cluster", f"{run.spec.nodes} nodes, {run.spec.copies} copies"))
        facts.append(("namespace", run.spec.ns))
    felt = sum(bool(line.get("bit")) for line in run.faults)
    if run.faults:
        facts.append(("faults", f"{len(run.faults)}, {felt} felt"))
    if "seed" in run.verdict:
        facts.append(("seed", str(run.verdict["seed"])))
    return facts


# -- why it is so ---------------------------------------------------------------------------------


def check_of(name: str, told: Any) -> Check:
    """Return a check of verdict.json as a value."""
    return msgspec.convert(
        {"name": name, **{key: told[key] for key in ("verdict", "because")}}
        | {key: told[key] for key in ("evidence", "judged", "violations") if key in told},
        Check,
    )


def _checks(run: RunRecord) -> Table | None:
    found = [check_of(name, told) for name, told in run.checks.items()]
    return checks_table(sorted(found, key=_badness)) if found else None


def _badness(check: Check) -> int:
    return [Verdict.INVALID, Verdict.UNKNOWN, Verdict.VALID].index(check.verdict)


def _guards(run: RunRecord) -> Table | None:
    guards = run.verdict.get("guards")
    if not guards:
        return None
    rows = [
        (str(name), "holds" if said == "holds" else "broken", "" if said == "holds" else str(said))
        for name, said in guards.items()
    ]
    return table("", (Column("GUARD"), Column("STATE"), Column("WHAT IS MISSING")), rows)


def _proofs(run: RunRecord, figures: dict[str, Figure]) -> list[dict[str, Any]]:
    """Return every check that is not valid, with the operations that show it."""
    proofs = []
    for name, told in run.checks.items():
        check = check_of(name, told)
        if check.verdict is Verdict.VALID:
            continue
        ops = _evidence(run.columns, check)
        proof: dict[str, Any] = {
            "check": name,
            "verdict": check.verdict.value,
            "because": check.because,
            "figure": "",
            "table": evidence_table(check, ops) if ops else None,
        }
        if ops:
            proof["figure"] = f"proof-{len(figures)}"
            figures[proof["figure"]] = proof_chart(ops[:PROOF_OPS_MAX], run.faults)
        proofs.append(proof)
    return proofs


def _evidence(columns: Columns, check: Check) -> list[Op]:
    last = int(columns.start[-1]) if len(columns) else -1
    known = [place for place in check.evidence if 0 <= place <= last]
    found = Operations(columns).at(known)
    return [op for op, place in zip(found, known, strict=True) if op.start == place]


# -- clients, keys, nodes -------------------------------------------------------------------------


def _clients_notes(chosen: Timeline) -> list[str]:
    about = "A bar is an operation, from the moment it was sent to its answer, to scale."
    notes = [f"{about} Behind it, pale red: a fault was active."]
    if chosen.left_out:
        total, shown = len(chosen.work), len(chosen.chosen)
        said = f"{shown:,} of {total:,} operations are drawn"
        if chosen.windows:
            said += (
                f": all in {len(chosen.windows)} windows of time around what proves the verdict,"
                " around the begin and end of faults, and after the longest time without a success"
            )
        if chosen.clients_left_out:
            said += f"; {chosen.clients_left_out:,} clients are left out"
        notes.append(f"{said}. The charts above count all of them.")
    return notes


def _windows(chosen: Timeline) -> list[dict[str, Any]]:
    return [
        {"from_s": one.from_us / 1e6, "until_s": one.until_us / 1e6,
         "why": f"{one.from_us / 1e6:.2f} s: {one.why}", "first": place == chosen.first}
        for place, one in enumerate(chosen.windows)
    ]  # fmt: skip


def _shares(columns: Columns, work: Work, figures: dict[str, Figure]) -> str:
    """Add charts of operations by node and by key; return the title of the latter."""
    asked = np.bincount(columns.node[work.rows], minlength=len(columns.nodes))
    nodes = sorted(
        (name, int(count))
        for name, count in zip(columns.nodes, asked, strict=True)
        if name and count
    )
    if nodes:
        shown = nodes[:NODES_SHOWN]
        figures["nodes"] = shares_chart(
            [name for name, _ in shown], [count for _, count in shown], len(work), "operations"
        )
    by_key = np.bincount(columns.key[work.rows], minlength=len(columns.keys))
    order = np.argsort(-by_key, kind="stable")[:KEYS_SHOWN]
    busiest = [(columns.keys[at], int(by_key[at])) for at in order.tolist() if by_key[at]]
    if busiest:
        figures["keys"] = shares_chart(
            [key for key, _ in busiest], [count for _, count in busiest], len(work), "operations"
        )
    touched = int(np.count_nonzero(by_key))
    if touched <= KEYS_SHOWN:
        return "Operations by key"
    share = sum(count for _, count in busiest) / max(len(work), 1)
    return f"The {len(busiest)} busiest of {touched:,} keys ({share:.1%} of all operations)"


def _movement(run: RunRecord) -> list[Table]:
    """Return what each change of the ring moved, against the least that had to."""
    moves = run.ring.get("moves") or {}
    if not moves:
        return []
    merged = merge_moves(moves.values())
    tables = [changes_table(merged, held_keys=sum((run.ring.get("keys") or {}).values()))]
    if any(change["transfers"] for change in merged["changes"]):
        tables.append(moves_table(merged))
    return tables


def _environment(run: RunRecord) -> Table:
    rows = list(run.environment.items())
    if run.spec is not None:
        spec = run.spec
        rows += [
            ("nodes, copies", f"{spec.nodes}, {spec.copies} (r {spec.r}, w {spec.w})"),
            ("sync", spec.sync),
            ("time", format_duration(spec.time_us)),
        ]
    rows.append(("files", f"{run.path}, {run.logs} logs of nodes" if run.logs else run.path))
    return table("", (Column("WHAT"), Column("VALUE")), rows)
