"""Charts of single operations, to scale: clients over time, and the few that prove a verdict.

They are figures for Plotly; which operations are shown is timeline.py's choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kvlab.check.columns import Columns, ops_of
from kvlab.history import Op
from kvlab.report.figure_parts import (
    LANE_PX,
    MARGINS,
    Figure,
    fault_shades,
    marker_of,
    operation_line,
    operation_words,
    plain_text,
    seconds,
    short_name,
    time_axis,
)
from kvlab.report.series import OUTCOMES, fault_span
from kvlab.report.timeline import Timeline, outcome_name

ROW_PX: Final = 30


def clients_chart(
    columns: Columns, timeline: Timeline, faults: Sequence[Mapping[str, Any]], span: int
) -> Figure:
    """Return the chart of chosen operations, a lane for each client, to scale."""
    ops = ops_of(columns, timeline.work.rows[timeline.chosen])
    names = [outcome_name(timeline, place) for place in timeline.chosen.tolist()]
    data = []
    for outcome in OUTCOMES:
        places = [place for place, name in enumerate(names) if name == outcome]
        if places:
            data.append(
                _operation_bars(
                    outcome,
                    [ops[place] for place in places],
                    [timeline.lane[place] for place in places],
                    span,
                )
            )
    height = max(len(timeline.lanes), 1) * LANE_PX
    shown = [0, seconds(span)]
    if timeline.windows:
        first = timeline.windows[timeline.first]
        shown = [seconds(first.from_us), seconds(first.until_us)]
    return {
        "data": data,
        "layout": {
            "height": height + MARGINS["t"] + MARGINS["b"],
            "margin": MARGINS,
            "barmode": "overlay",
            "hovermode": "closest",
            "xaxis": time_axis(span) | {"range": shown},
            "yaxis": {
                "range": [len(timeline.lanes) - 0.5, -0.5],
                "tickvals": list(range(len(timeline.lanes))),
                "ticktext": [short_name(name) for name in timeline.lanes],
                "fixedrange": True,
                "showgrid": False,
                "zeroline": False,
            },
            "shapes": fault_shades(faults, span) + _not_drawn(timeline, span),
            "showlegend": False,
        },
    }  # fmt: skip


def _operation_bars(outcome: str, ops: Sequence[Op], lanes: Sequence[int], span: int) -> Figure:
    ends = [span if op.end_us is None else op.end_us for op in ops]
    return {
        "type": "bar",
        "orientation": "h",
        "name": outcome,
        "base": [seconds(op.start_us) for op in ops],
        "x": [seconds(end - op.start_us) for op, end in zip(ops, ends, strict=True)],
        "y": list(lanes),
        "width": 0.72,
        "marker": marker_of(outcome) | {"line": {"color": f"--{outcome}", "width": 1.2}},
        "hovertext": [operation_words(op) for op in ops],
        "hoverinfo": "text",
        "textposition": "none",
    }


def _not_drawn(timeline: Timeline, span: int) -> list[Figure]:
    """Return a veil over the time between the windows, where operations are left out."""
    if not timeline.windows:
        return []
    edges = [0, *(edge for one in timeline.windows for edge in (one.from_us, one.until_us)), span]
    return [
        {"type": "rect", "xref": "x", "yref": "paper", "x0": seconds(low), "x1": seconds(high), "y0": 0,
         "y1": 1, "layer": "above", "line": {"width": 0}, "fillcolor": "--veil"}
        for low, high in zip(edges[::2], edges[1::2], strict=True)
        if low < high
    ]  # fmt: skip


# -- the least that proves a verdict --------------------------------------------------------------


def proof_chart(ops: Sequence[Op], faults: Sequence[Mapping[str, Any]]) -> Figure:
    """Return the chart of the operations that show why a run is not valid, one row each."""
    ops = sorted(ops, key=lambda op: op.start_us)
    low = min(op.start_us for op in ops)
    high = max(op.start_us if op.end_us is None else op.end_us for op in ops)
    room = max((high - low) // 25, 100)
    span = high + room
    data = []
    for outcome in ("ok", "fail", "info"):
        rows = [place for place, op in enumerate(ops) if op.outcome == outcome]
        if rows:
            name = {"ok": "ok", "fail": "failed", "info": "unknown"}[outcome]
            data.append(_operation_bars(name, [ops[row] for row in rows], rows, span)
                        | {"width": 0.34, "offset": 0.05})  # fmt: skip
    near = [one for one in faults if fault_span(one, span)[1] >= low - room]
    return {
        "data": data,
        "layout": {
            "height": len(ops) * 2 * ROW_PX + 60,
            "margin": MARGINS | {"l": 12, "t": 8},
            "barmode": "overlay",
            "showlegend": False,
            "hovermode": "closest",
            "xaxis": time_axis(span) | {"range": [seconds(low - room), seconds(span)]},
            "yaxis": {"range": [len(ops) - 0.5, -0.5], "fixedrange": True, "visible": False},
            "shapes": fault_shades(near, span),
            "annotations": [
                {"text": plain_text(operation_line(op)), "xref": "paper", "x": 0, "xanchor": "left",
                 "y": row - 0.25, "showarrow": False, "align": "left",
                 "font": {"size": 12, "color": "--ink"}}
                for row, op in enumerate(ops)
            ],
        },
    }  # fmt: skip


def shares_chart(names: Sequence[str], values: Sequence[int], total: int, title: str) -> Figure:
    """Return horizontal bars, the first name on top, with the share of each in `total`."""
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "x": list(values),
                "y": list(range(len(values))),
                "text": [f"{value:,} ({value / total:.1%})" for value in values],
                "textposition": "auto",
                "insidetextfont": {"color": "--on-bar"},
                "marker": {"color": "--ok"},
                "hoverinfo": "none",
                "cliponaxis": False,
            }
        ],
        "layout": {
            "height": len(values) * LANE_PX + 70,
            "margin": MARGINS | {"t": 8, "r": 60},
            "bargap": 0.25,
            "xaxis": {"title": {"text": title}, "fixedrange": True, "rangemode": "tozero"},
            "yaxis": {
                "range": [len(values) - 0.5, -0.5],
                "tickvals": list(range(len(values))),
                "ticktext": [short_name(name) for name in names],
                "fixedrange": True,
                "showgrid": False,
            },
        },
    }
