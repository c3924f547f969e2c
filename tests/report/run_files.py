"""A small run as a value, for tests of what shows runs: two clients, one fault, a lost write."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kvlab.check.reading import read_history
from kvlab.history import Event, encode_events
from kvlab.report.record import RunRecord
from kvlab.spec.scenario_file import parse_scenario

SPEC = """
version: 1
name: tiny
nodes: 3
time: 3s
workload: {operations: 10, clients: 2, keys: 2}
phases:
  - {name: calm, for: 1s}
  - {name: trouble, for: 2s}
"""
FAULTS = [
    {"id": 1, "t_us": 1_000_000, "until_us": 1_500_000, "kind": "kill", "title": "kill server2",
     "done": True, "bit": True, "why": "", "evidence": {"server2": "pid 1 killed by SIGKILL"}},
    {"id": 2, "t_us": 2_000_000, "until_us": 3_000_000, "kind": "reset", "title": "reset all",
     "done": True, "bit": False, "why": ""},
    {"id": 3, "t_us": 2_100_000, "until_us": 2_200_000, "kind": "pause", "title": "pause server3",
     "done": False, "bit": False, "why": "it is not running"},
]  # fmt: skip

RING = {
    "keys": {"server1": 2, "server2": 2, "server4": 1},
    "moves": {
        "server4": {
            "changes": [
                {"epoch": 4, "change": "join", "subject": "server4", "at_us": 1000, "moved_copies": 3,
                 "minimum_copies": 3, "members_before": 3, "members_after": 4},
            ],
            "moves": [
                {"epoch": 4, "from": "server1", "to": "server4", "range": 5, "keys": 1, "bytes": 9,
                 "at_us": 3000},
            ],
        },
    },
}  # fmt: skip


def operation(
    number: int,
    start_us: int,
    took_us: int | None,
    *,
    client: str = "c1",
    f: str = "set",
    key: str = "k1",
    value: str | None = "v1",
    outcome: str = "ok",
    **more: Any,
) -> list[Event]:
    """Return the events of one operation; without `took_us` it never completes."""
    given: dict[str, Any] = {"client": client, "op": number, "f": f, "key": key}
    given |= {name: more.pop(name) for name in ("node", "final") if name in more}
    asked = Event(t_us=start_us, type="invoke", **given)
    if f != "get":
        asked.value = value
    if took_us is None:
        return [asked]
    answer = Event(t_us=start_us + took_us, type=outcome, **given, **more)  # type: ignore[arg-type]
    if f == "get" and outcome == "ok":
        answer.value = value
    return [asked, answer]


def events_of(operations: Iterable[list[Event]]) -> list[Event]:
    """Return the events of operations in order of time."""
    return sorted((event for each in operations for event in each), key=lambda one: one.t_us)


def tiny_events() -> list[Event]:
    """Six operations, one of each outcome, and a final read that does not find what was written."""
    return events_of(
        [
            operation(1, 100_000, 2_000, node="server1"),
            operation(1, 200_000, 4_000, client="c2", f="get", node="server2"),
            operation(2, 1_100_000, 900_000, outcome="fail", error="NO_QUORUM", node="server2"),
            operation(2, 1_200_000, 500_000, client="c2", outcome="info", error="no answer"),
            operation(3, 1_800_000, 8_000, client="c2.1", key="k2", degraded=True, node="server3"),
            operation(4, 2_900_000, None, key="k2"),
            operation(1, 3_100_000, 1_000, client="reader1", f="get", value=None, final=True),
        ]
    )


def verdict_of(word: str = "invalid", **more: Any) -> dict[str, Any]:
    """Return a verdict.json, by default of a run that lost its first write."""
    lost = {
        "verdict": word,
        "because": "k1 is lost",
        "evidence": [0, 11],
        "judged": 2,
        "violations": 1,
    }
    return {
        "schema": 1,
        "verdict": word,
        "because": "lost: k1 is lost",
        "checks": {
            "reads": {"verdict": "valid", "because": "all is well", "evidence": [], "judged": 1},
            "lost": lost,
        },
        "guards": {"operations": "holds", "faults": "reset all had no effect"},
        "seed": 7,
        "reproduce": "kvlab run tiny --seed 7",
        "environment": {"python": "3.11.7", "world": "real"},
    } | more  # fmt: skip


def record_of(
    events: list[Event],
    *,
    verdict: dict[str, Any] | None = None,
    faults: list[dict[str, Any]] | None = None,
    spec: str | None = SPEC,
    ring: dict[str, Any] | None = None,
) -> RunRecord:
    """Return a run as a value."""
    reading = read_history([encode_events(events)])
    return RunRecord(
        name="tiny",
        path="runs/tiny/latest",
        columns=reading.table.columns,
        notes=reading.notes,
        verdict=verdict_of() if verdict is None else verdict,
        faults=FAULTS if faults is None else faults,
        spec=parse_scenario(spec) if spec is not None else None,
        spec_text=spec or "",
        logs=0,
        ring=RING if ring is None else ring,
    )


def files_of(folder: Any, events: list[Event] | None = None, **more: Any) -> Any:
    """Write the files of a run into a folder; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.jsonl").write_bytes(encode_events(events or tiny_events()))
    (folder / "faults.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in FAULTS))
    (folder / "verdict.json").write_text(json.dumps(verdict_of(**more)))
    (folder / "spec.yaml").write_text(SPEC)
    (folder / "ring.json").write_text(json.dumps(RING))
    return folder
