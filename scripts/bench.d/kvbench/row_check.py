"""Row `check`: a million operations of unique values, read and judged.

The history is made here, by clients of a store with one copy: valid, with operations that overlap.
There is no peer in this process: the known ones need a JVM or Go. Porcupine took 0.7 to 1.1 s for
such a history, in memory, on two cores of the machine where targets were set; hence the target.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from kvbench.bench import Bench
from kvbench.figures import Sample, at_least, compare
from kvlab.check import Verdict, run_checks
from kvlab.check.reading import read_history
from kvlab.history import Event, encode_events

OPERATIONS = 1_000_000
QUICK_OPERATIONS = 20_000
CLIENTS = 50
KEYS = (1_000, 1)
CHECKS = ("linear", "reads", "read-your-writes", "staleness")
BLOCK_BYTES = 1 << 18


def check(bench: Bench) -> None:
    """Measure reading and judging, with many keys and with one."""
    for keys in KEYS:
        data = make_history(QUICK_OPERATIONS if bench.quick else OPERATIONS, keys)
        blocks = [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]
        del data
        table = read_history(blocks).table
        candidates: dict[str, Callable[[], Sample]] = {
            "reading": lambda: _timed(lambda: read_history(blocks).table)  # noqa: B023 - used at once
        }
        checks = CHECKS if keys > 1 else CHECKS[:1]
        for name in checks:
            candidates[name] = partial(_timed, partial(_judged, table, name))
        samples = bench.compare_rounds(f"check, {keys} keys", candidates)
        for name in candidates:
            bench.lines.append(
                compare(
                    "check",
                    f"{name}: {keys} key{'s' * (keys > 1)}",
                    "ops/s",
                    samples,
                    ours=name,
                    cpu="client_cpu_us",
                    target=at_least(4e6, "kvlab") if name == "linear" else None,
                )
            )


def _judged(table: Any, name: str) -> Any:
    found = run_checks(table, (name,))[0]
    if found.verdict is not Verdict.VALID:
        raise RuntimeError(f"{name}: {found.because}")
    return table


def _timed(once: Callable[[], Any]) -> Sample:
    began_s, cpu_s = time.perf_counter(), time.process_time()
    ops = len(once().columns)
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    return Sample(rate=ops / took_s, client_cpu_us=cpu_s * 1e6 / ops, ops=ops)


def make_history(operations: int, keys: int) -> bytes:
    """Let clients set unique values and get, half and half, on one copy of every key."""
    rng = Random(1)
    state: dict[str, str] = {}
    running: list[list[Any]] = []  # client, op, f, key, value, whether it happened
    idle, begun, t_us = list(range(CLIENTS)), 0, 0
    events: list[Event] = []
    while begun < operations or running:
        t_us += rng.randrange(1, 20)
        if running and (not idle or begun == operations or rng.random() < 0.5):
            at = rng.randrange(len(running))
            running[at], running[-1] = running[-1], running[at]
            one = running.pop()
            _happen(one, state)
            idle.append(one[0])
            events.append(_event(t_us, one, "ok"))
        else:
            client = idle.pop(rng.randrange(len(idle)))
            f = "set" if rng.random() < 0.5 else "get"
            value = f"v{begun}" if f == "set" else None
            one = [client, begun, f, f"k{rng.randrange(keys)}", value, False]
            begun += 1
            running.append(one)
            events.append(_event(t_us, one, "invoke"))
        if running and rng.random() < 0.6:
            _happen(rng.choice(running), state)
    return encode_events(events)


def _happen(one: list[Any], state: dict[str, str]) -> None:
    if one[5]:
        return
    one[5] = True
    if one[2] == "set":
        state[one[3]] = one[4]
    else:
        one[4] = state.get(one[3])


def _event(t_us: int, one: list[Any], kind: Any) -> Event:
    client, op, f, key, value, _ = one
    event = Event(t_us=t_us, client=f"c{client}", op=op, type=kind, f=f, key=key)
    if (f == "set") is (kind == "invoke"):
        event.value = value
    return event
