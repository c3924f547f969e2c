"""Which operations a picture of clients over time shows: all of a small run, else moments that matter.

It draws nothing. A hundred thousand bars say less than the few hundred around what went wrong.

Invariants:

1. At most OPERATIONS_MAX operations are chosen. What proves a verdict comes first, then the begin and
   end of each fault, then the longest time without a success.
2. Windows do not overlap, and stand in order of time. Inside one, no operation is left out.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from kvlab.check.columns import Columns, Ints
from kvlab.report.series import OUTCOMES, Work, fault_span, work_of

OPERATIONS_MAX: Final = 2500
CLIENTS_MAX: Final = 40
WINDOWS_MAX: Final = 24
BEFORE_US: Final = 50_000
AFTER_US: Final = 150_000
SHARE_MAX: Final = 4  # no single window takes more than one part in so many of what may be shown
PROOF: Final = "proof"
_RENAMED: Final = re.compile(r"(.+)\.\d+")


class Window(msgspec.Struct, frozen=True):
    """A piece of time that is shown whole, and why."""

    from_us: int
    until_us: int
    why: str


class Timeline(msgspec.Struct, frozen=True):
    """Operations chosen, as places in `work`, with a lane for each."""

    work: Work
    chosen: Ints
    lanes: list[str]  # clients
    lane: list[int]  # of each chosen operation
    windows: list[Window]  # none: nothing is left out but clients beyond CLIENTS_MAX
    first: int  # the place of the window to look at first
    left_out: int
    clients_left_out: int


def timeline_of(
    columns: Columns, faults: Sequence[Mapping[str, Any]], evidence: Sequence[int], span: int
) -> Timeline:
    """Choose operations of a run whose faults are undone when `span` (microseconds) is over.

    `evidence` are places of invocations in the history that prove a verdict.
    """
    work = work_of(columns)
    lanes, lane_of, too_many = _lanes(columns, work)
    shown = lane_of >= 0
    windows: list[Window] = []
    if int(shown.sum()) > OPERATIONS_MAX:
        windows = _windows(work, shown, _moments(columns, work, faults, evidence, span))
        inside = np.zeros(len(work), np.bool_)
        for one in windows:
            inside |= _in(work, one.from_us, one.until_us)
        shown &= inside
    chosen = np.flatnonzero(shown)
    return Timeline(
        work=work,
        chosen=chosen,
        lanes=lanes,
        lane=lane_of[chosen].tolist(),
        windows=windows,
        first=next((n for n, one in enumerate(windows) if one.why.startswith(PROOF)), 0),
        left_out=len(work) - len(chosen),
        clients_left_out=too_many,
    )


def base_name(client: str, known: Container[str]) -> str:
    """Return the client that goes on under another name after an unknown outcome: c1.2 is c1."""
    found = _RENAMED.fullmatch(client)
    return found[1] if found and found[1] in known else client


def _lanes(columns: Columns, work: Work) -> tuple[list[str], Ints, int]:
    """Return the names of lanes, the lane of each operation (-1: none), and how many have none."""
    known = set(columns.clients)
    bases = [base_name(name, known) for name in columns.clients]
    present = np.unique(columns.client[work.rows]).tolist()
    names = sorted({bases[number] for number in present}, key=_in_order)
    place = {name: number for number, name in enumerate(names[:CLIENTS_MAX])}
    of_client = np.array([place.get(name, -1) for name in bases] or [-1], np.int64)
    lane_of = of_client[columns.client[work.rows]]
    return names[:CLIENTS_MAX], lane_of, max(0, len(names) - CLIENTS_MAX)


def _in_order(name: str) -> tuple[Any, ...]:
    """Sort c2 before c10."""
    return tuple((part.isdigit(), int(part) if part.isdigit() else part)
                 for part in re.split(r"(\d+)", name) if part)  # fmt: skip


def _moments(
    columns: Columns,
    work: Work,
    faults: Sequence[Mapping[str, Any]],
    evidence: Sequence[int],
    span: int,
) -> list[Window]:
    """Return what is worth a look, the most important first; windows may overlap."""
    found = []
    ends_us = work.start_us + np.maximum(work.took_us, 0)
    starts = columns.start[work.rows]
    for place in np.flatnonzero(np.isin(starts, np.array(evidence, np.int64))).tolist():
        key = columns.keys[int(columns.key[work.rows[place]])]
        moments = (int(work.start_us[place]), int(ends_us[place]))
        found += [_around(moment, f"{PROOF}: {key}") for moment in moments]
    spans = [(*fault_span(line, span), str(line.get("title") or line.get("kind") or "fault"))
             for line in faults if line.get("done", True)]  # fmt: skip
    found += [_around(began_us, f"{title} begins") for began_us, _, title in spans]
    found += [_around(ended_us, f"{title} ends") for _, ended_us, title in spans if ended_us < span]
    gap = _longest_gap(work, ends_us)
    if gap is not None:
        found.append(_around(gap, "after the longest time without a success"))
    return found or [_around(0, "the beginning")]


def _around(moment_us: int, why: str) -> Window:
    return Window(max(0, moment_us - BEFORE_US), moment_us + AFTER_US, why)


def _longest_gap(work: Work, ends_us: Ints) -> int | None:
    """Return when the longest time without a success ended."""
    successes = np.sort(ends_us[work.succeeded])
    if len(successes) < 2:
        return None
    return int(successes[int(np.diff(successes).argmax()) + 1])


def _in(work: Work, from_us: int, until_us: int) -> Any:
    ends_us = np.where(work.took_us < 0, work.start_us, work.start_us + work.took_us)
    return (work.start_us < until_us) & (ends_us >= from_us)


def _windows(work: Work, shown: Any, wanted: Sequence[Window]) -> list[Window]:
    """Take windows in their order while there is room; narrow those that hold too much."""
    taken: list[Window] = []
    room = OPERATIONS_MAX
    for one in wanted:
        if len(taken) >= WINDOWS_MAX or room <= 0:
            break
        if any(one.from_us < other.until_us and other.from_us < one.until_us for other in taken):
            continue
        narrow = _narrowed(work, shown, one, min(room, OPERATIONS_MAX // SHARE_MAX))
        count = int((_in(work, narrow.from_us, narrow.until_us) & shown).sum())
        if 0 < count <= room:
            taken.append(narrow)
            room -= count
    return sorted(taken, key=lambda one: one.from_us)


def _narrowed(work: Work, shown: Any, one: Window, most: int) -> Window:
    """Halve a window around its moment until it holds few enough operations."""
    moment_us = one.until_us - AFTER_US
    before_us, after_us = moment_us - one.from_us, one.until_us - moment_us
    while (before_us or after_us) and int(
        (_in(work, moment_us - before_us, moment_us + after_us) & shown).sum()
    ) > most:
        before_us, after_us = before_us // 2, after_us // 2
    return Window(moment_us - before_us, moment_us + after_us, one.why)


def outcome_name(timeline: Timeline, place: int) -> str:
    """Return what became of a chosen operation."""
    return OUTCOMES[int(timeline.work.outcome[place])]
