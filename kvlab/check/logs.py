"""Nothing that a node logged looks like a defect. It is the one check that reads no history.

It does not know what a log means: it looks for texts that no healthy node writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kvlab.check.verdict import Check, Verdict

NAME = "logs"
FORBIDDEN = ("Traceback (most recent call last)", "CRITICAL", "panic:", "Segmentation fault")
LINE_CHARS = 120


def check_logs(
    logs: Mapping[str, Iterable[str]], *, forbidden: tuple[str, ...] = FORBIDDEN
) -> Check:
    """Judge the lines of each node's log, by the node's id. O(n) for n lines."""
    judged, violations, first = 0, 0, ""
    for node, lines in logs.items():
        for number, line in enumerate(lines, start=1):
            judged += 1
            found = [text for text in forbidden if text in line]
            if found:
                violations += 1
                shown = line.strip()[:LINE_CHARS]
                first = first or f"the log of {node}, line {number}, has {found[0]!r}: {shown}"
    if violations:
        more = f" (and {violations - 1} more)" if violations > 1 else ""
        verdict, because = Verdict.INVALID, first + more
    elif logs:  # of servers that say nothing, too
        verdict, because = Verdict.VALID, f"none of {judged} lines of {len(logs)} logs is alarming"
    else:
        verdict, because = Verdict.UNKNOWN, "there are no logs"
    return Check(name=NAME, verdict=verdict, because=because, judged=judged, violations=violations)
