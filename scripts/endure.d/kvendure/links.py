"""Campaign `links`: do links do what was asked of them, measured from end to end through a real shim?

Latency is met within 1 ms or 2 %, bandwidth within 3 % (medians, beyond what a link without a rule
takes), jitter is drawn as evenly as it says, a partition lets nothing through 10 ms after its verb
returned. What is missed while the machine wakes up everybody late is unknown, not a failure.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from math import sqrt
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from kvendure.campaign import Campaign, spread
from kvendure.wire import MESSAGE_BYTES, Lateness, Receiver, Stream, Wire
from kvlab.fault.link import LinkRule
from kvlab.units import format_bandwidth, parse_bandwidth

ROWS = ("latency", "jitter", "bandwidth", "partition")
LATENCIES_MS = (1, 5, 20, 50, 200)
JITTERS_MS = ((20, 5), (50, 20), (10, 10))
BANDWIDTHS = ("64kb/s", "1mb/s", "50mbit", "10mb/s", "50mb/s")
LATENCY_MS, LATENCY_SHARE, BANDWIDTH_SHARE, EFFECT_MS = 1.0, 0.02, 0.03, 10.0
GAP_S = 0.01  # between messages, unless jitter needs more for them not to meet
STREAM_GAP_S = 0.001  # while it is cut
CUT_S, BEFORE_S = 0.25, 0.1
FLOW_S = 1.5  # how long a stream flows
FLOWS = 3  # of each bandwidth; the median counts
LATE_MS, LATE_P90_MS = 0.3, 1.0  # a machine is quiet while sleeps end later by no more than this
KS_99 = 1.63  # of the distance between a sample and its distribution, times the root of its size
PLAIN_WIDTH = 120


def links(options: argparse.Namespace) -> int:
    """Run the campaign; return the exit status."""
    told = Campaign("links", "links do what was asked of them", 0, options.json)
    rows: list[dict[str, Any]] = []
    sizes = (len(LATENCIES_MS), len(JITTERS_MS), len(BANDWIDTHS), 2 * options.cuts)
    told.count = sum(
        size for name, size in zip(ROWS, sizes, strict=True) if name in (options.rows or ROWS)
    )
    with tempfile.TemporaryDirectory(prefix="kvlab-links-") as place, Wire(Path(place)) as wire:
        try:
            for measure in _rows(wire, options):
                with Lateness() as late:
                    row = measure()
                rows.append(row)
                noise = _noise(late.late_ms)
                if row["failed"] and noise:
                    row["noisy"] = noise
                    told.doubt(f"{row['failed']}; {noise}")
                else:
                    told.note(row["failed"])
        except KeyboardInterrupt:
            told.interrupted = True
    shown = _cuts_as_one(rows)
    if options.json:
        told.facts["rows"] = shown
    else:
        _print(shown)
    return told.close()


def _noise(late_ms: list[float]) -> str:
    """Say how late the machine was meanwhile, if it was not quiet."""
    ordered = sorted(late_ms)
    p90 = ordered[int(0.9 * len(ordered))]
    if median(ordered) <= LATE_MS and p90 <= LATE_P90_MS:
        return ""
    return f"sleeps ended {median(ordered):.1f} ms late (median), 10 % of them {p90:.1f} ms or more"


def _rows(wire: Wire, options: argparse.Namespace) -> Iterator[Callable[[], dict[str, Any]]]:
    """Yield what measures each row that is asked for."""
    chosen, count, base_ms = options.rows or ROWS, options.count, 0.0
    if "latency" in chosen or "jitter" in chosen:
        base_ms = median(wire.delays_ms(LinkRule(), count, GAP_S))
    if "latency" in chosen:
        yield from (partial(_latency, wire, asked, base_ms, count) for asked in LATENCIES_MS)
    if "jitter" in chosen:
        yield from (partial(_jitter, wire, *asked, base_ms, count) for asked in JITTERS_MS)
    if "bandwidth" in chosen:
        for text in BANDWIDTHS:
            yield partial(_bandwidth, wire, parse_bandwidth(text))
    if "partition" in chosen:
        for mode in ("hold", "reset"):
            yield from (partial(_partition, wire, mode) for _ in range(options.cuts))


def _latency(wire: Wire, asked_ms: int, base_ms: float, count: int) -> dict[str, Any]:
    rule = LinkRule(latency_us=asked_ms * 1000)
    met = [took - base_ms for took in wire.delays_ms(rule, count, GAP_S)]
    allowed = max(LATENCY_MS, LATENCY_SHARE * asked_ms)
    told = spread(met)
    failed = ""
    if abs(told["median"] - asked_ms) > allowed:
        failed = f"latency {asked_ms:g} ms: the median is {told['median']:.2f} ms"
    return {
        "what": "latency (ms)", "asked": f"{asked_ms:g}", "median": told["median"],
        "p99": told["p99"], "off": told["median"] - asked_ms, "allowed": allowed, "failed": failed,
        "samples": count, "note": f"a clean link takes {base_ms:.2f}",
    }  # fmt: skip


def _jitter(
    wire: Wire, asked_ms: float, jitter_ms: float, base_ms: float, count: int
) -> dict[str, Any]:
    """Far enough apart that no message waits behind the one before it."""
    gap_s = (2 * jitter_ms + 5) / 1000
    rule = LinkRule(latency_us=int(asked_ms * 1000), jitter_us=int(jitter_ms * 1000))
    met = sorted(took - base_ms for took in wire.delays_ms(rule, count, gap_s))
    off, allowed = _distance(met, asked_ms - jitter_ms, asked_ms + jitter_ms), KS_99 / sqrt(count)
    failed = ""
    if off > allowed:
        failed = f"jitter {asked_ms:g} +-{jitter_ms:g} ms is not drawn evenly: distance {off:.3f}"
    told = spread(met)
    return {
        "what": "jitter (ms)", "asked": f"{asked_ms:g} +-{jitter_ms:g}", "median": told["median"],
        "p99": told["p99"], "off": off, "allowed": allowed, "failed": failed, "samples": count,
        "note": f"5 % below {met[int(0.05 * count)]:.1f}, 95 % below {met[int(0.95 * count)]:.1f};"
        " off: Kolmogorov-Smirnov",
    }  # fmt: skip


def _distance(ordered: list[float], low: float, high: float) -> float:
    """How far a sample is from an even draw, where each value may be wrong by LATENCY_MS."""

    def share(value: float) -> float:
        return min(1.0, max(0.0, (value - low) / (high - low)))

    count, far = len(ordered), 0.0
    for at, value in enumerate(ordered):
        far = max(far, share(value - LATENCY_MS) - (at + 1) / count)
        far = max(far, at / count - share(value + LATENCY_MS))
    return far


def _bandwidth(wire: Wire, asked: int) -> dict[str, Any]:
    met = [wire.rate_bps(LinkRule(bandwidth_bps=asked), int(asked * FLOW_S)) for _ in range(FLOWS)]
    off, text, failed = median(met) / asked - 1, format_bandwidth(asked), ""
    if abs(off) > BANDWIDTH_SHARE:
        failed = f"bandwidth {text}: the median is {median(met):,.0f} bytes/s, {off:+.1%}"
    return {
        "what": "bandwidth (bytes/s)", "asked": f"{asked:,}", "median": median(met),
        "p99": min(met), "off": off, "allowed": BANDWIDTH_SHARE, "failed": failed,
        "samples": FLOWS, "note": f"{text}; p99: the slowest",
    }  # fmt: skip


def _partition(wire: Wire, mode: str) -> dict[str, Any]:
    """Cut a stream while it flows; what was held must come in order when it is healed."""
    near, receiver = wire.dial()
    with near, receiver.socket:
        stream = Stream(near, STREAM_GAP_S)
        time.sleep(BEFORE_S)
        cut_ns = wire.partition(mode)
        time.sleep(CUT_S)
        heal_ns = time.time_ns()
        met = [(at, total) for at, total in receiver.arrivals if at < heal_ns]
        wire.heal()
        sent = stream.stop()
        failed = _why_wrong(mode, receiver, stream, sent)
    before = max((total for at, total in met if at <= cut_ns + EFFECT_MS * 1e6), default=0)
    through = (met[-1][1] if met else 0) - before
    late_ms = max(0.0, (met[-1][0] - cut_ns) / 1e6) if met else 0.0
    if through:
        failed = f"partition ({mode}): {through} bytes came up to {late_ms:.1f} ms after the verb"
    elif not met:
        failed = f"partition ({mode}): nothing flowed before it"
    return {
        "what": f"partition ({mode})", "late_ms": late_ms, "through": through, "failed": failed,
    }  # fmt: skip


def _why_wrong(mode: str, receiver: Receiver, stream: Stream, sent: int) -> str:
    if mode == "reset":
        receiver.join(1.0)
        broken = stream.broken or receiver.broken or not receiver.is_alive()
        return "" if broken else "partition (reset): the connection lives on"
    try:
        receiver.wait(sent * MESSAGE_BYTES)
    except TimeoutError as late:
        return f"partition (hold): after the heal {late}"
    numbers = [
        int.from_bytes(receiver.data[at : at + 8])
        for at in range(0, len(receiver.data), MESSAGE_BYTES)
    ]
    if numbers != list(range(sent)):
        return "partition (hold): what was held did not come in order"
    return ""


def _cuts_as_one(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the cuts of each mode into one row."""
    shown = [row for row in rows if "late_ms" not in row]
    for mode in ("hold", "reset"):
        cuts = [row for row in rows if row["what"] == f"partition ({mode})"]
        if cuts:
            told = spread([row["late_ms"] for row in cuts])
            through = sum(row["through"] for row in cuts)
            shown.append({
                "what": f"partition {mode} (ms)", "asked": "0", "median": told["median"],
                "p99": told["p99"], "off": told["most"], "allowed": EFFECT_MS,
                "failed": next((row["failed"] for row in cuts if row["failed"]), ""),
                "noisy": next((row["noisy"] for row in cuts if row.get("noisy")), ""),
                "samples": len(cuts),
                "note": f"the last byte after the verb; {through} bytes through later",
            })  # fmt: skip
    return shown


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None)
    for name in ("link", "asked", "median", "p99", "off", "allowed", "samples", "holds", "note"):
        table.add_column(name.upper(), justify="left" if name in ("link", "note") else "right")
    for row in rows:
        figures = (_figure(row[name]) for name in ("median", "p99", "off", "allowed"))
        table.add_row(
            row["what"], row["asked"], *figures, str(row["samples"]),
            "noisy" if row.get("noisy") else "no" if row["failed"] else "yes", row["note"],
        )  # fmt: skip
    console = Console()
    Console(width=None if console.is_terminal else PLAIN_WIDTH + 40).print(table)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
