"""How late the clients of a run were, and how long what they asked took, from when it was due.

It judges nothing. A history whose clients were late shows a store that was asked less than was meant;
so that this does not hide, latencies count from when an operation was due (see Tene, "How not to
measure latency", on coordinated omission).
"""

from __future__ import annotations

from collections.abc import Iterable

from kvlab.history import Event

LATE = "not sent in time"
"""The error of an operation that could not be begun within its time-out: the backlog is bounded."""


def latencies_of(events: Iterable[Event]) -> list[int]:
    """Return how long each operation took that succeeded, in microseconds, the shortest first.

    Time counts from when it was due. Final reads are left out, and so is what tells no due time.
    """
    due: dict[tuple[str, int], int] = {}
    found = []
    for event in events:
        if event.final:
            continue
        if event.type == "invoke":
            if isinstance(event.intended_us, int):
                due[event.client, event.op] = event.intended_us
            continue
        due_us = due.pop((event.client, event.op), None)
        if due_us is not None and event.type == "ok":
            found.append(max(0, event.t_us - due_us))
    return sorted(found)


def lateness_of(events: Iterable[Event]) -> dict[str, int]:
    """Return how many operations were due and not sent, and by how much the others were late.

    Times are microseconds; final reads are due when they are sent, and are left out.
    """
    late, not_sent = [], 0
    for event in events:
        if event.final:
            continue
        if event.type == "invoke" and isinstance(event.intended_us, int):
            late.append(max(0, event.t_us - event.intended_us))
        not_sent += event.type == "fail" and event.error == LATE
    late.sort()
    told = {"operations": len(late), "not_sent": not_sent}
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        place = min(len(late) - 1, int(share * len(late)))
        told[f"late_us_{name}"] = late[place] if late else 0
    return told
