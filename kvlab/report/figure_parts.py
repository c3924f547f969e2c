"""What all charts of a page have in common: axes, colours, and the words for an operation.

It draws nothing: figures are Plotly's, and the page draws them (page/page.js). A colour that begins
with `--` is the name of one of the page's, so that a figure fits light and dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kvlab.history import Op
from kvlab.report.check import result_text, what_text
from kvlab.report.latency import show_us
from kvlab.report.series import fault_span

Figure = dict[str, Any]

PATTERNS: Final = {"ok": "", "degraded": "", "failed": "x", "unknown": "/"}
"""Hatching besides colour, for eyes that tell colours badly and for printers."""
LANE_PX: Final = 24
MARGINS: Final = {"l": 78, "r": 16, "t": 26, "b": 44}


def fault_shades(faults: Sequence[Mapping[str, Any]], span: int) -> list[Figure]:
    """Return a pale strip behind everything for each time in which a fault was active."""
    spans = [fault_span(line, span) for line in faults if line.get("done", True)]
    merged: list[list[int]] = []
    for began_us, ended_us in sorted(spans):
        if merged and began_us <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], ended_us)
        else:
            merged.append([began_us, ended_us])
    return [
        {"type": "rect", "xref": "x", "yref": "paper", "x0": seconds(low), "x1": seconds(high), "y0": 0,
         "y1": 1, "layer": "below", "line": {"width": 0}, "fillcolor": "--shade"}
        for low, high in merged
    ]  # fmt: skip


def operation_words(op: Op) -> str:
    """Return what a pointer over an operation shows: at most five lines."""
    times = f"{op.start_us / 1e6:.6f} s"
    if op.end_us is None:
        times += ", never completed"
    else:
        times += f", took {show_us(op.end_us - op.start_us)}"
    lines = [f"<b>{plain_text(what_text(op))}</b>", plain_text(result_text(op)), times]
    lines.append(plain_text(f"{op.client} at {op.node}" if op.node else op.client))
    return "<br>".join(lines)


def operation_line(op: Op) -> str:
    """Return an operation in one line."""
    where = f" at {op.node}" if op.node else ""
    return f"{op.client}{where}: {what_text(op)}: {result_text(op)}"


def plain_text(text: str) -> str:
    """Take from a text what Plotly would read as a tag."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def short_name(name: str) -> str:
    """Return a name as it fits beside an axis."""
    return plain_text(name if len(name) <= 10 else f"{name[:9]}…")


def marker_of(outcome: str) -> Figure:
    """Return the colour and hatching of an outcome."""
    marker: Figure = {"color": f"--{outcome}"}
    if PATTERNS[outcome]:
        marker["pattern"] = {
            "shape": PATTERNS[outcome],
            "size": 5,
            "fgcolor": "--card",
            "fillmode": "overlay",
        }
    return marker


def time_axis(span: int) -> Figure:
    """Return the axis of time of a whole run."""
    return {
        "range": [0, seconds(span)],
        "title": {"text": "seconds since the run began", "standoff": 6},
        "zeroline": False,
        "showspikes": True,
        "spikemode": "across",
        "spikesnap": "cursor",
        "spikethickness": 1,
        "spikedash": "solid",
        "spikecolor": "--edge",
    }


def value_axis(title: str) -> Figure:
    """Return an axis of values from 0 up."""
    return {
        "title": {"text": title},
        "fixedrange": True,
        "zeroline": False,
        "rangemode": "tozero",
        "exponentformat": "none",
    }


def seconds(us: float) -> float:
    """Return microseconds as seconds."""
    return round(us / 1e6, 6)
