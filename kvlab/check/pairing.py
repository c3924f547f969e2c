"""Invocations find their completions: events as columns become operations as columns.

It reads no lines (reading.py does). The rules are those of `history.pair`, for all events at once.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from kvlab.check.columns import (
    ABSENT,
    APPEND,
    CAS,
    FUNCTIONS,
    GET,
    INCR,
    INFO,
    NONE,
    OK,
    SET,
    Bools,
    Codes,
    Columns,
    Ids,
    Ints,
    Table,
)
from kvlab.history import PROBLEMS_SHOWN, EventType

EVENTS: tuple[EventType, ...] = ("invoke", "ok", "fail", "info")
EVENT_CODES = {name: code for code, name in enumerate(EVENTS)}
INVOKE = EVENT_CODES["invoke"]
UNTOLD = 1  # the number of a value that an event does not tell; ABSENT (null) is one that it tells

Problem = tuple[int, str]
"""The place of an event, and what is wrong with it."""


class Events(msgspec.Struct, frozen=True):
    """Events as arrays of one length, in the order of the history."""

    keys: list[str]
    values: list[str | None]
    clients: list[str]
    nodes: list[str]
    errors: list[str]
    t_us: Ints
    op: Ints
    type: Codes
    f: Codes
    key: Ids
    client: Ids
    value: Ids
    expected: Ids
    node: Ids
    error: Ids
    version: npt.NDArray[Any]
    final: Bools
    degraded: Bools


def pair_events(events: Events) -> tuple[Table, list[Problem]]:
    """Match invocations with completions, in O(n log n); problems are those of the first lines."""
    begun = np.flatnonzero(events.type == INVOKE)
    completion, problems = _completions(events)
    done = completion[begun]
    problems += _contradictions(events, begun, done)
    problems.sort()
    columns = _columns(events, begun, done)
    return Table(columns), problems[:PROBLEMS_SHOWN]


def _completions(events: Events) -> tuple[Ints, list[Problem]]:
    """Return where the operation that begins at each place completes, or NONE."""
    # Equal (client, op) come together, in the order of their places.
    order = np.lexsort((events.op, events.client))
    client, op = events.client[order], events.op[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (client[1:] != client[:-1]) | (op[1:] != op[:-1])
    second = np.zeros_like(first)
    second[1:] = first[:-1] & ~first[1:]
    begins = events.type[order] == INVOKE
    completion = np.full(len(order), NONE, np.int64)
    completes = np.flatnonzero(second)
    completion[order[completes - 1]] = order[completes]
    problems: list[Problem] = []
    for wrong, said in (
        (first & ~begins, "client {} completed op {}, which it did not invoke before"),
        (~first & begins, "client {} invoked op {} twice"),
        (~first & ~second & ~begins, "client {} completed op {} twice"),
    ):
        for place in np.sort(order[wrong])[:PROBLEMS_SHOWN].tolist():
            name = events.clients[events.client[place]]
            problems.append((place, said.format(name, events.op[place])))
    return completion, problems


def _contradictions(events: Events, begun: Ints, done: Ints) -> list[Problem]:
    """Find times that run backwards, operations that change, and values that are missing."""
    problems: list[Problem] = []
    for place in _first(np.flatnonzero(np.diff(events.t_us) < 0) + 1):
        now, before = events.t_us[place], events.t_us[place - 1]
        problems.append((place, f"t_us {now} is before {before} of the event above"))
    needs = np.isin(events.f[begun], (SET, CAS)) & (events.value[begun] <= UNTOLD)
    problems += [
        (place, f"a {FUNCTIONS[events.f[place]]} needs a value") for place in _first(begun[needs])
    ]
    begun, done = begun[done != NONE], done[done != NONE]
    other = (events.key[begun] != events.key[done]) | (events.f[begun] != events.f[done])
    for at in _first(np.flatnonzero(other)):
        was, became = (
            f"{FUNCTIONS[events.f[place]]} {events.keys[events.key[place]]}"
            for place in (begun[at], done[at])
        )
        who = events.clients[events.client[done[at]]]
        said = (
            f"client {who} invoked op {events.op[done[at]]} as {was} and completed it as {became}"
        )
        problems.append((int(done[at]), said))
    found = (events.f[done] == GET) & (events.type[done] - 1 == OK)
    said = "a get that is ok needs a value (null for an absent key)"
    problems += [(place, said) for place in _first(done[found & (events.value[done] == UNTOLD)])]
    return problems


def _first(places: Ints) -> list[int]:
    found: list[int] = np.sort(places)[:PROBLEMS_SHOWN].tolist()
    return found


def _columns(events: Events, begun: Ints, done: Ints) -> Columns:
    has_end = done != NONE

    def told(field: npt.NDArray[Any], otherwise: Any) -> npt.NDArray[Any]:
        """Return what the completion tells."""
        return np.where(has_end, field[done], otherwise) if len(field) else field

    f = events.f[begun]
    outcome = told(events.type - 1, INFO).astype(np.int8)
    value = np.where(
        f == GET,
        np.where(outcome == OK, told(events.value, ABSENT), ABSENT),
        _known(events.value[begun]),
    )
    node = told(events.node, 0)
    return Columns(
        keys=events.keys,
        values=events.values,
        clients=events.clients,
        nodes=events.nodes,
        errors=events.errors,
        key=events.key[begun],
        value=value.astype(np.int32),
        expected=_known(events.expected[begun]).astype(np.int32),
        client=events.client[begun],
        node=np.where(node == 0, events.node[begun], node).astype(np.int32),
        error=told(events.error, 0).astype(np.int32),
        f=f,
        outcome=outcome,
        op=events.op[begun],
        start=begun,
        end=np.where(outcome == INFO, NONE, done),
        start_us=events.t_us[begun],
        end_us=told(events.t_us, NONE),
        version=told(events.version, 0),
        final=events.final[begun] | told(events.final, False).astype(np.bool_),
        degraded=told(events.degraded, False).astype(np.bool_),
        result=np.where(
            np.isin(f, (INCR, APPEND)) & (outcome == OK), _known(told(events.value, ABSENT)), ABSENT
        ).astype(np.int32),
    )


def _known(value: Ids) -> Ids:
    return np.where(value == UNTOLD, ABSENT, value)
