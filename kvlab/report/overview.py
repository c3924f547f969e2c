"""The chart of a whole run: faults, rates and latencies over one axis of time. A figure for Plotly.

Invariants:

1. Times are seconds since the run began, latencies milliseconds.
2. The axis of time covers the whole run, and is the same for all three parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from typing import Any, Final

from kvlab.check.columns import Columns, ops_of
from kvlab.report.figure_parts import (
    LANE_PX,
    MARGINS,
    Figure,
    marker_of,
    operation_words,
    plain_text,
    seconds,
    time_axis,
    value_axis,
)
from kvlab.report.series import (
    OUTCOMES,
    Latencies,
    Points,
    Rates,
    Work,
    fault_span,
    latencies,
    points,
    rates,
)
from kvlab.units import format_duration

LANES_MAX: Final = 12
RATE_PX: Final = 150
LATENCY_PX: Final = 250
GAP_PX: Final = 22
MOMENT_SHARE: Final = 300  # a fault of a moment is drawn as one part in so many of the run
TICK_DECADES: Final = 2  # of a scale that has no room for more ticks than one a decade


def overview(
    columns: Columns,
    work: Work,
    faults: Sequence[Mapping[str, Any]],
    phases: Sequence[tuple[str, int, int]],
    span: int,
) -> tuple[Figure, list[str]]:
    """Return the chart of faults, rates and latencies, and sentences on what it leaves out."""
    lanes = _lanes(faults)
    height = len(lanes) * LANE_PX
    found_rates, found_latencies = rates(work, span), latencies(work, span)
    dots = {name: points(work, name, span) for name in OUTCOMES}
    total = height + RATE_PX + LATENCY_PX + 2 * GAP_PX
    low, middle = LATENCY_PX / total, (LATENCY_PX + GAP_PX) / total
    layout: Figure = {
        "height": total + MARGINS["t"] + MARGINS["b"],
        "margin": MARGINS,
        "barmode": "stack",
        "bargap": 0,
        "hovermode": "closest",
        "xaxis": time_axis(span) | {"anchor": "y3"},
        "yaxis": {
            "domain": [1 - height / total if lanes else 1 - 0.001, 1],
            "range": [len(lanes) - 0.5, -0.5],
            "tickvals": list(range(len(lanes))),
            "ticktext": lanes,
            "fixedrange": True,
            "showgrid": False,
            "zeroline": False,
        },
        "yaxis2": value_axis("operations/s")
        | {"domain": [middle, (total - height - GAP_PX) / total]},
        "yaxis3": value_axis("ms") | {"domain": [0, low]} | _log_scale(work),
        "shapes": _phase_lines(phases),
        "annotations": _phase_names(phases),
        "showlegend": False,
        "uniformtext": {"minsize": 9, "mode": "hide"},
    }
    data = [
        *_fault_bars(faults, lanes, span, axis="y"),
        *_rate_bars(found_rates),
        *_dots(columns, work, dots),
        *_percentile_lines(found_latencies),
    ]
    return {"data": data, "layout": layout}, _overview_notes(found_rates, found_latencies, dots)


def _overview_notes(found: Rates, latency: Latencies, dots: Mapping[str, Points]) -> list[str]:
    about = (
        f"Rates are per {format_duration(found.width_us)}, by the moment at which an operation began;"
        f" percentiles are of all that succeeded per {format_duration(latency.width_us)},"
        " from sent to answered. p99 is drawn where a bin has 1,000 operations or more."
    )
    notes = [about]
    left_out = sum(one.left_out for one in dots.values())
    if left_out:
        shown = sum(len(one.rows) for one in dots.values())
        notes.append(
            f"{shown:,} operations have a dot: the slowest of each moment and kind."
            f" {left_out:,} have none, and are in the percentiles and the rates."
        )
    return notes


# -- parts of the overview ------------------------------------------------------------------------


def _lanes(faults: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the kinds of fault in the order in which they first came."""
    done = [str(line.get("kind")) for line in faults if line.get("done", True)]
    return list(dict.fromkeys(done))[:LANES_MAX]


def _fault_bars(
    faults: Sequence[Mapping[str, Any]], lanes: Sequence[str], span: int, *, axis: str
) -> list[Figure]:
    bars = []
    for felt in (True, False):
        lines = [
            one
            for one in faults
            if bool(one.get("bit")) is felt and one.get("done", True) and one.get("kind") in lanes
        ]
        if not lines:
            continue
        spans = [fault_span(one, span) for one in lines]
        titles = [str(one.get("title") or one.get("kind")) for one in lines]
        bars.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": "fault" if felt else "fault that nobody felt",
                "yaxis": axis,
                "base": [seconds(began) for began, _ in spans],
                "x": [seconds(max(ended - began, span // MOMENT_SHARE)) for began, ended in spans],
                "y": [lanes.index(str(one["kind"])) for one in lines],
                "width": 0.78,
                "text": [
                    title.removeprefix(f"{one['kind']} ")
                    for title, one in zip(titles, lines, strict=True)
                ],
                "hovertext": [
                    _fault_words(one, title, *times)
                    for one, title, times in zip(lines, titles, spans, strict=True)
                ],
                "textposition": "inside",
                "insidetextanchor": "start",
                "textangle": 0,
                "insidetextfont": {"size": 11, "color": "--on-bar"},
                "hoverinfo": "text",
                "marker": {
                    "color": "--fault" if felt else "--unfelt",
                    "line": {"color": "--fault", "width": 2 if felt else 1},
                    "pattern": {"shape": "" if felt else "/", "size": 5},
                },
            }
        )
    return bars


def _fault_words(line: Mapping[str, Any], title: str, began_us: int, ended_us: int) -> str:
    words = [f"<b>{plain_text(title)}</b>", f"{seconds(began_us):g} s to {seconds(ended_us):g} s"]
    evidence = line.get("evidence") or {}
    words += [
        plain_text(f"{name}: {value}") for name, value in list(evidence.items())[:6] if value
    ] or ["felt" if line.get("bit") else "not felt"]
    return "<br>".join(words)


def _rate_bars(found: Rates) -> list[Figure]:
    per_s = 1e6 / found.width_us
    bars = []
    for name in OUTCOMES:
        counts = found.counts[name]
        if not any(counts):
            continue
        bars.append(
            {
                "type": "bar",
                "name": name,
                "yaxis": "y2",
                "x": [seconds((place + 0.5) * found.width_us) for place in range(len(counts))],
                "y": [round(count * per_s, 2) for count in counts],
                "width": found.width_us / 1e6,
                "marker": marker_of(name) | {"line": {"width": 0}},
                "hovertemplate": f"%{{x:.3f}} s: %{{y:,.0f}}/s {name}<extra></extra>",
            }
        )
    return bars


def _dots(columns: Columns, work: Work, dots: Mapping[str, Points]) -> list[Figure]:
    """Draw single operations; those that nobody answered stand at the time their client gave up."""
    found = []
    for name, chosen in dots.items():
        rows = chosen.rows[work.took_us[chosen.rows] >= 0]
        if not len(rows):
            continue
        small = name in ("ok", "degraded")
        found.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "yaxis": "y3",
                "x": [seconds(us) for us in work.start_us[rows].tolist()],
                "y": [max(us, 1) / 1e3 for us in work.took_us[rows].tolist()],
                "marker": {
                    "color": f"--{name}",
                    "size": 4 if small else 8,
                    "opacity": 0.45 if small else 0.95,
                    "symbol": {"failed": "x", "unknown": "diamond"}.get(name, "circle"),
                },
                "hovertext": [operation_words(op) for op in ops_of(columns, work.rows[rows])],
                "hoverinfo": "text",
            }
        )
    return found


def _percentile_lines(found: Latencies) -> list[Figure]:
    middles = [seconds((place + 0.5) * found.width_us) for place in range(len(found.n))]
    lines = []
    for name, values, dash in (
        ("p50", found.p50_us, "solid"),
        ("p99", found.p99_us, "dash"),
        ("max", found.max_us, "dot"),
    ):
        if all(value is None for value in values):
            continue
        lines.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "yaxis": "y3",
                "x": middles,
                "y": [None if value is None else max(value, 1) / 1e3 for value in values],
                "line": {
                    "color": "--ink",
                    "width": 2 if name == "p50" else 1.3,
                    "dash": dash,
                    "shape": "hvh",
                },
                "customdata": found.n,
                "hovertemplate": f"{name} %{{y:.3~f}} ms of %{{customdata:,}}<extra></extra>",
            }
        )
    return lines


def _phase_lines(phases: Sequence[tuple[str, int, int]]) -> list[Figure]:
    line = {"color": "--edge", "width": 1, "dash": "dot"}
    return [
        {"type": "line", "xref": "x", "yref": "paper", "x0": seconds(at), "x1": seconds(at), "y0": 0,
         "y1": 1, "line": line, "layer": "below"}
        for _, at, _ in phases
    ]  # fmt: skip


def _phase_names(phases: Sequence[tuple[str, int, int]]) -> list[Figure]:
    return [
        {"text": plain_text(name), "xref": "x", "yref": "paper", "x": seconds(at), "y": 1, "yshift": 16,
         "xanchor": "left", "showarrow": False, "font": {"size": 12, "color": "--quiet"}}
        for name, at, _ in phases
    ]  # fmt: skip


def _log_scale(work: Work) -> Figure:
    """Return a logarithmic scale with round ticks, few or many of them as the range wants."""
    answered = work.took_us[work.took_us >= 0]
    low = log10(max(int(answered.min()), 1) / 1e3) if len(answered) else 0.0
    high = log10(max(int(answered.max()), 1) / 1e3) if len(answered) else 1.0
    steps = (1,) if high - low > TICK_DECADES else (1, 2, 5)
    powers = range(floor(low) - 1, ceil(high) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return {
        "type": "log",
        "range": [low - 0.15, high + 0.15],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }
