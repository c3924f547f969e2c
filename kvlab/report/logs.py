"""Merges the log lines of several nodes into one stream by time. It reads no file.

A line begins with an RFC 3339 time or belongs to the line before it (a traceback, say).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?")


def merge_lines(logs: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """Return (node, line) of all logs by time; lines of one node keep their order."""
    entries: list[tuple[str, str, int, str]] = []
    for node, lines in logs.items():
        latest = ""
        for i, line in enumerate(lines):
            # A clock that steps back must not reorder one node's own lines.
            latest = max(latest, line_time(line))
            entries.append((latest, node, i, line))
    entries.sort(key=lambda entry: entry[:3])
    return [(node, line) for _, node, _, line in entries]


def line_time(line: str) -> str:
    """Return the time that a line begins with, as comparable text; "" when it has none."""
    found = _STAMP.match(line)
    return found.group().replace(" ", "T").replace(",", ".") if found else ""


def prefixed(lines: Iterable[tuple[str, str]], width: int) -> list[str]:
    """Put the node's name, padded to `width`, before each line."""
    return [f"{node.ljust(width)} | {line}" for node, line in lines]
