"""Two runs side by side: verdicts, checks that differ, figures of each phase with their ratio.

It says what differs, not which is better: two single runs on a busy machine differ by chance.

Invariant: phases are matched by name, and by place only where neither run names them alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import msgspec

from kvlab.report.latency import show_us
from kvlab.report.phases import share_text
from kvlab.report.record import RunRecord
from kvlab.report.series import PhaseFigures
from kvlab.report.table import Column, Table, table
from kvlab.units import format_duration

MISSING: Final = "-"
VALUE_CHARS: Final = 60
_SETTINGS: Final = ("name", "seed", "nodes", "copies", "r", "w", "ranges", "ns", "sync", "expect")
_TIMES: Final = ("time_us", "latency_us", "jitter_us")
"""Fields of a scenario that change what a run measures; workload, phases and faults do, too."""


class Measure(msgspec.Struct, frozen=True):
    """One figure of one phase in both runs; None where there is none."""

    phase: str
    name: str  # with its unit: ok_per_s, ok_share, p50_us, p90_us, p99_us, max_us, gap_us
    a: float | None
    b: float | None

    @property
    def ratio(self) -> float | None:
        """B over A."""
        return None if self.a is None or self.b is None or not self.a else self.b / self.a


class Difference(msgspec.Struct, frozen=True):
    """Something that is not the same in both runs."""

    what: str
    a: str
    b: str


class Comparison(msgspec.Struct, frozen=True):
    """What two runs have to say to each other."""

    names: tuple[str, str]
    verdicts: tuple[str, str]
    becauses: tuple[str, str]
    checks: tuple[Difference, ...]
    measures: tuple[Measure, ...]
    environment: tuple[Difference, ...]
    settings: tuple[Difference, ...]

    def to_builtins(self) -> dict[str, Any]:
        """Return the comparison as JSON shows it."""
        told = msgspec.to_builtins(self)
        measures = [
            {**msgspec.to_builtins(one), "ratio": _rounded(one.ratio)} for one in self.measures
        ]
        return {"schema": 1, **told, "measures": measures}


def compare_runs(a: RunRecord, b: RunRecord) -> Comparison:
    """Compare two runs."""
    return Comparison(
        names=(a.path, b.path),
        verdicts=(a.word, b.word),
        becauses=(a.because, b.because),
        checks=_differences(_verdicts(a), _verdicts(b)),
        measures=tuple(_measures(a.figures(), b.figures())),
        environment=_differences(a.environment, b.environment),
        settings=_differences(_settings(a), _settings(b)),
    )


def _verdicts(run: RunRecord) -> dict[str, str]:
    return {
        name: f"{check.get('verdict')}: {check.get('because')}"
        if check.get("verdict") != "valid"
        else "valid"
        for name, check in run.checks.items()
    }


def _settings(run: RunRecord) -> dict[str, str]:
    spec = run.spec
    if spec is None:
        return {}
    told = {name: str(getattr(spec, name)) for name in _SETTINGS}
    told |= {name.removesuffix("_us"): format_duration(getattr(spec, name)) for name in _TIMES}
    told |= {f"workload {name}": str(value) for name, value in asdict(spec.workload).items()}
    told["phases"] = ", ".join(f"{one.name} {format_duration(one.span_us)}" for one in spec.phases)
    told["faults"] = ", ".join(dict.fromkeys(one.kind for one in spec.faults))
    return told


def _differences(a: Mapping[str, str], b: Mapping[str, str]) -> tuple[Difference, ...]:
    names = dict.fromkeys((*a, *b))
    return tuple(
        Difference(name, a.get(name, MISSING), b.get(name, MISSING))
        for name in names
        if a.get(name) != b.get(name)
    )


def _measures(a: Sequence[PhaseFigures], b: Sequence[PhaseFigures]) -> list[Measure]:
    found = []
    for name, one, other in _matched(a, b):
        left, right = _figures(one), _figures(other)
        found += [Measure(name, what, left.get(what), right.get(what)) for what in left or right]
    return found


def _matched(
    a: Sequence[PhaseFigures], b: Sequence[PhaseFigures]
) -> list[tuple[str, PhaseFigures | None, PhaseFigures | None]]:
    ours, theirs = {one.name: one for one in a}, {one.name: one for one in b}
    names = dict.fromkeys((*ours, *theirs))
    if not any(name in ours and name in theirs for name in names) and len(a) == len(b):
        return [(f"{one.name} / {other.name}", one, other) for one, other in zip(a, b, strict=True)]
    return [(name, ours.get(name), theirs.get(name)) for name in names]


def _figures(phase: PhaseFigures | None) -> dict[str, float | None]:
    if phase is None:
        return {}
    return {
        "ok_per_s": phase.per_s,
        "ok_share": phase.ok_share,
        "p50_us": phase.latency.p50_us,
        "p90_us": phase.latency.p90_us,
        "p99_us": phase.latency.p99_us,
        "max_us": phase.latency.max_us,
        "gap_us": phase.gap_us,
    }


# -- tables ---------------------------------------------------------------------------------------


def compare_tables(found: Comparison) -> list[Table]:
    """Return the comparison as tables; those that would be empty are left out."""
    tables = [_phases_table(found)]
    tables += [
        _difference_table(title, differences)
        for title, differences in (
            ("checks that differ", found.checks),
            ("environments that differ", found.environment),
            ("settings that differ", found.settings),
        )
        if differences
    ]
    return tables


def _phases_table(found: Comparison) -> Table:
    rows = [
        (one.phase, one.name.removesuffix("_us").replace("_per_s", "/s").replace("_", " "),
         _value(one.name, one.a), _value(one.name, one.b), _ratio(one))
        for one in found.measures
        if one.a is not None or one.b is not None
    ]  # fmt: skip
    columns = (
        Column("PHASE"),
        Column("FIGURE"),
        Column("A", right=True),
        Column("B", right=True),
        Column("B/A", right=True, style="bold"),
    )
    return table("what clients saw, by phase", columns, rows)


def _difference_table(title: str, differences: Sequence[Difference]) -> Table:
    rows = [(one.what, _cut(one.a), _cut(one.b)) for one in differences]
    return table(title, (Column("WHAT"), Column("A"), Column("B")), rows)


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_CHARS else f"{text[: VALUE_CHARS - 1]}…"


def _value(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name == "gap_us":
        return format_duration(round(value))
    if name.endswith("_us"):
        return show_us(value)
    return share_text(value) if name == "ok_share" else f"{value:,.1f}"


def _ratio(one: Measure) -> str:
    return "" if one.ratio is None else f"{one.ratio:.2f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
