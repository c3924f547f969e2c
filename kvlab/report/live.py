"""A run while it goes on: rates and latencies by column of time, faults, nodes, what is known so far.

It gives no verdict: only what cannot be right whatever follows is called wrong. It reads no file;
lines of history.jsonl, faults.jsonl and the diary of the laboratory come in as they are written.

Invariants:

1. A column is the same piece of time in every row, from the begin of the run to its planned end.
2. An operation counts in the column in which it ended; what ends later than planned, in the last one.
3. Memory is for the values written, one number an operation, and the operations under way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log10
from typing import TYPE_CHECKING, Any, Final

from kvlab.fault.fault import LASTING
from kvlab.history import MISSING, Event
from kvlab.report.latency import show_us
from kvlab.units import format_duration

if TYPE_CHECKING:
    from rich.console import RenderableType

SPARKS: Final = "▁▂▃▄▅▆▇█"
FAULT_ON: Final = "■"
FAULT_OFF: Final = "·"
LANES_MAX: Final = 8
LABEL_CELLS: Final = 10
VALUE_CELLS: Final = 9
FAST_US: Final = 100  # the bottom of a row of latencies; the top is TOP_US
TOP_US: Final = 10_000_000
OUTCOMES: Final = ("ok", "fail", "info")
NODE_STATES: Final = {
    "start": "starting",
    "ready": "running",
    "not-ready": "not ready",
    "stopped": "down",
    "crashed": "crashed",
    "backoff": "crashed",
    "failed": "failed",
    "paused": "paused",
    "running": "running",
    "added": "joining",
    "removed": "left",
}
"""What an event of the laboratory's diary means for the node it names."""
_STYLES: Final = {"running": "green", "down": "red", "crashed": "bold red", "failed": "bold red",
                  "paused": "yellow"}  # fmt: skip


@dataclass(slots=True)
class Column:
    """What ended in one piece of time."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    took_us: list[int] = field(default_factory=list)  # of operations that succeeded

    def p99_us(self) -> int | None:
        """Return the nearest-rank 99th percentile: of fewer than a hundred, the slowest."""
        ordered = sorted(self.took_us)
        return ordered[-(-99 * len(ordered) // 100) - 1] if ordered else None


class LiveRun:
    """What is known of a run by now."""

    def __init__(
        self,
        *,
        name: str,
        seed: int,
        time_us: int,
        phases: Sequence[tuple[str, int, int]],
        columns: int,
    ) -> None:
        self.name = name
        self.seed = seed
        self.time_us = max(time_us, 1)
        self.phases = phases
        self.columns = [Column() for _ in range(max(columns, 1))]
        self.nodes: dict[str, str] = {}
        self.faults: dict[Any, Mapping[str, Any]] = {}
        self.operations = 0
        self.reads = 0  # whose value was looked at
        self.wrong = ""  # the first thing that cannot be right
        self._open: dict[tuple[str, int], int] = {}
        self._written: dict[str, set[str]] = {}
        self._derived: set[str] = set()  # keys whose values the store makes itself

    # -- what comes in --------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """Take a line of the history."""
        if event.type == "invoke":
            self._open[event.client, event.op] = event.t_us
            if event.f in ("incr", "append"):
                self._derived.add(event.key)
            elif isinstance(event.value, str):
                self._written.setdefault(event.key, set()).add(event.value)
            return
        began_us = self._open.pop((event.client, event.op), event.t_us)
        self._look_at(event)
        if event.final:
            return
        self.operations += 1
        kind = "ok" if event.type == "fail" and event.error == MISSING else event.type
        column = self.columns[self._place(event.t_us)]
        column.counts[kind] += 1
        if kind == "ok":
            column.took_us.append(event.t_us - began_us)

    def _look_at(self, event: Event) -> None:
        """A get may return only what somebody had begun to write: nothing later can change that."""
        if event.f != "get" or event.type != "ok" or not isinstance(event.value, str):
            return
        if event.key in self._derived:
            return
        self.reads += 1
        if event.value not in self._written.get(event.key, ()) and not self.wrong:
            self.wrong = (
                f"a get of {event.key} by {event.client} at {event.t_us / 1e6:.3f} s returned"
                f" {event.value[:40]!r}, which nobody had written"
            )

    def fault(self, line: Mapping[str, Any]) -> None:
        """Take a line of the journal of faults; a later one of the same id replaces it."""
        self.faults[line.get("id", len(self.faults))] = line

    def diary(self, line: Mapping[str, Any]) -> None:
        """Take a line of the laboratory's diary."""
        state = NODE_STATES.get(str(line.get("kind")))
        if state and line.get("node"):
            self.nodes[str(line["node"])] = state

    # -- what it comes to -----------------------------------------------------------------------

    def _place(self, t_us: int) -> int:
        return min(max(t_us, 0) * len(self.columns) // self.time_us, len(self.columns) - 1)

    def phase(self, now_us: int) -> str:
        """Return the phase that goes on, or what comes after all of them."""
        return next((name for name, _, until_us in self.phases if now_us < until_us), "the end")

    def so_far(self) -> str:
        """Say what is known: never that all is well, which only the checks at the end can say."""
        if self.wrong:
            return f"WRONG: {self.wrong}"
        return f"nothing wrong seen in {self.reads:,} reads; the verdict is for the end"

    def spark(self, outcome: str, now_us: int) -> str:
        """Return the rate of an outcome as a row of columns; blank where the run is not yet."""
        counts = [column.counts[outcome] for column in self.columns]
        top = max(sum(column.counts.values()) for column in self.columns)
        return self._row([count / top if top else 0.0 for count in counts], now_us)

    def latency_spark(self, now_us: int) -> str:
        """Return p99 as a row of columns, by the logarithm from 100 us to 10 s."""
        span = log10(TOP_US / FAST_US)
        shares = [
            None if us is None else log10(min(max(us, FAST_US), TOP_US) / FAST_US) / span
            for us in (column.p99_us() for column in self.columns)
        ]
        return self._row(shares, now_us)

    def _row(self, shares: Sequence[float | None], now_us: int) -> str:
        here = self._place(now_us)
        return "".join(
            " " if share is None or place > here else _cell(share)
            for place, share in enumerate(shares)
        )

    def last(self, now_us: int) -> Column:
        """Return the newest whole column: the one that goes on would show less than there is."""
        return self.columns[max(self._place(now_us) - 1, 0)]

    def per_s(self, outcome: str, now_us: int) -> float:
        """Return the rate of an outcome in the newest whole column."""
        width_s = self.time_us / len(self.columns) / 1e6
        return self.last(now_us).counts[outcome] / width_s

    def lanes(self, now_us: int) -> list[tuple[str, str, str]]:
        """Return for each kind of fault: its name, its row of columns, and who suffers it now."""
        kinds: dict[str, list[Mapping[str, Any]]] = {}
        for line in self.faults.values():
            if line.get("done", True):
                kinds.setdefault(str(line.get("kind")), []).append(line)
        found = []
        for kind, lines in list(kinds.items())[:LANES_MAX]:
            row = [FAULT_OFF if place <= self._place(now_us) else " "
                   for place in range(len(self.columns))]  # fmt: skip
            active = []
            for line in lines:
                began_us, ended_us = self._span(line)
                for place in range(self._place(began_us), self._place(min(ended_us, now_us)) + 1):
                    row[place] = FAULT_ON
                if began_us <= now_us < ended_us:
                    active.append(str(line.get("title", kind)).removeprefix(f"{kind} "))
            found.append((kind, "".join(row), ", ".join(active)))
        return found

    def _span(self, line: Mapping[str, Any]) -> tuple[int, int]:
        began_us = int(line.get("t_us", 0))
        if line.get("kind") in LASTING:
            return began_us, began_us
        return began_us, int(line.get("undone_us") or line.get("until_us") or self.time_us)


def _cell(share: float) -> str:
    """Return a bar of one cell; nothing at all has the lowest one."""
    if share <= 0:
        return SPARKS[0]
    return SPARKS[min(1 + int(share * (len(SPARKS) - 1)), len(SPARKS) - 1)]


def live_text(run: LiveRun, now_us: int) -> list[tuple[str, str]]:
    """Return the view as lines of (text, rich style)."""
    shown_us = min(max(now_us, 0), run.time_us)
    head = (
        f"{run.name}, seed {run.seed}: {run.phase(now_us)},"
        f" {format_duration(shown_us)} of {format_duration(run.time_us)},"
        f" {run.operations:,} operations"
    )
    lines = [(head, "bold"), (f"so far: {run.so_far()}", "bold red" if run.wrong else "")]
    for outcome, label, style in (
        ("ok", "ok/s", "blue"),
        ("fail", "failed/s", "yellow"),
        ("info", "unknown/s", "magenta"),
    ):
        value = f"{run.per_s(outcome, shown_us):,.0f}"
        lines.append((_line(label, value, run.spark(outcome, shown_us)), style))
    p99 = show_us(run.last(shown_us).p99_us())
    lines.append((_line("p99", p99, run.latency_spark(shown_us)), "cyan"))
    lines += [
        (_line(kind, "", f"{row} {active}".rstrip()), "red" if active else "")
        for kind, row, active in run.lanes(shown_us)
    ]
    return lines


def _line(label: str, value: str, row: str) -> str:
    return f"{label:<{LABEL_CELLS}.{LABEL_CELLS}}{value:>{VALUE_CELLS}}  {row}"


def live_view(run: LiveRun, now_us: int) -> RenderableType:
    """Return the view for a terminal. Imports rich here: a pipe never needs it."""
    from rich.console import Group
    from rich.text import Text

    parts = [Text(text, style=style, overflow="ellipsis", no_wrap=True)
             for text, style in live_text(run, now_us)]  # fmt: skip
    nodes = Text(f"{'nodes':<{LABEL_CELLS}}")
    for name, state in sorted(run.nodes.items()):
        nodes.append(f" {name} ")
        nodes.append(state, style=_STYLES.get(state, "dim"))
    return Group(*parts, nodes)
