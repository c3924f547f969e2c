"""What happened in a world, as text: a line for each event, a lane for each host, arrows between them.

It knows no node and no message; the words of an event are given.

    time         s1  s2  s3  c1  kind      what
      0.501200   <-----------o   data      SET k1 v1
      0.501530   o--->   |   |   data      turn e2 group 7 1 op (write k1 v1 @0.501200/1)
      0.900000   =============   fault     partition server1 | server2,server3 (hold)
      0.910044   o---x   |   |   hold      turn e2 ack 5

`o` sends and `<` or `>` gets, `x` does not get it, `*` does something by itself, `=` and `!` are the
world's business, and `!` is wrong.

Invariant: one line per event, none wider than asked (but for words, which have WORDS_MIN at least).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

WIDTH: Final = 160
WORDS_MIN: Final = 24
KIND_CELLS: Final = 8
TIME_CELLS: Final = 11
NOT_GOT: Final = ("hold", "lost", "break")
"""Kinds of event that end on the way."""
_GAP: Final = "  "


class Row(NamedTuple):
    """One event; a host may be "" where there is none."""

    at_us: int
    kind: str
    source: str
    target: str
    words: str


def lanes_text(
    rows: Iterable[tuple[int, str, str, str, str]],
    *,
    width: int = WIDTH,
    hosts: Sequence[str] = (),
) -> str:
    """Return all lines as one text, without a newline at its end."""
    return "\n".join(lanes_lines(rows, width=width, hosts=hosts))


def lanes_lines(
    rows: Iterable[tuple[int, str, str, str, str]],
    *,
    width: int = WIDTH,
    hosts: Sequence[str] = (),
) -> Iterator[str]:
    """Yield a legend, a header, and a line for each row.

    `hosts` are the lanes from left to right; without them, those that the rows name: first what was
    started, then what was not, each in the order of names and numbers.
    """
    events = [Row(*row) for row in rows]
    lanes = _Lanes(hosts or _hosts(events))
    if lanes.legend:
        yield lanes.legend
    yield f"{'time':<{TIME_CELLS}}{_GAP}{lanes.header}{_GAP}{'kind':<{KIND_CELLS}}{_GAP}what".rstrip()
    room = width - TIME_CELLS - lanes.cells - KIND_CELLS - 3 * len(_GAP)
    for event in events:
        lane = lanes.draw(event)
        words = _cut(event.words, max(room, WORDS_MIN))
        seconds, us = divmod(event.at_us, 1_000_000)
        time = f"{seconds}.{us:06d}"
        line = f"{time:>{TIME_CELLS}}{_GAP}{lane}{_GAP}{event.kind:<{KIND_CELLS}}{_GAP}{words}"
        yield line.rstrip()


class _Lanes:
    """The columns of hosts."""

    def __init__(self, hosts: Sequence[str]) -> None:
        labels = _labels(hosts)
        self._step = max([2, *(len(label) for label in labels)]) + 2
        self._at = {host: number * self._step for number, host in enumerate(hosts)}
        self.cells = max(len(hosts) * self._step - 2, 2)
        self.header = "".join(label.ljust(self._step) for label in labels).ljust(self.cells)
        self.header = self.header[: self.cells]
        pairs = zip(labels, hosts, strict=True)
        self.legend = ", ".join(f"{label} {host}" for label, host in pairs if label != host)

    def draw(self, event: Row) -> str:
        """Return the lanes of one event."""
        if not event.source and not event.target:
            last = max(self._at.values(), default=0)
            mark = "!" if event.kind == "wrong" else "="
            return (mark * (last + 1)).ljust(self.cells)
        cells = [" "] * self.cells
        for at in self._at.values():
            cells[at] = "|"
        source, target = self._at.get(event.source), self._at.get(event.target)
        if source is None or target is None or source == target:
            own = source if source is not None else target
            if own is not None:
                cells[own] = "*"
            return "".join(cells)
        low, high = sorted((source, target))
        cells[low : high + 1] = "-" * (high + 1 - low)
        cells[source] = "o"
        got = event.kind not in NOT_GOT and event.words not in ("refuse", "hang")
        cells[target] = (">" if target > source else "<") if got else "x"
        return "".join(cells)


def _hosts(events: Sequence[Row]) -> list[str]:
    named = dict.fromkeys(host for one in events for host in (one.source, one.target) if host)
    started = {one.source for one in events if one.kind == "start"}
    return sorted(named, key=lambda host: (host not in started, _by_number(host)))


def _by_number(name: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdigit() else (-1, part)
        for part in re.findall(r"[0-9]+|[^0-9]+", name)
    ]


def _labels(hosts: Sequence[str]) -> list[str]:
    """Shorten names to a letter and a number, where that tells them apart."""
    short = [re.sub(r"^([^\W\d])[^\W\d]*(\d+)$", r"\1\2", host) for host in hosts]
    count = Counter(short)
    return [label if count[label] == 1 else host for label, host in zip(short, hosts, strict=True)]


def _cut(words: str, cells: int) -> str:
    """Return the first line of a text, without what would move a cursor, and not too long."""
    first, _, more = words.partition("\n")
    first = "".join(one if one.isprintable() else "?" for one in first)
    if len(first) > cells or more:
        return first[: cells - 1] + "…"
    return first
