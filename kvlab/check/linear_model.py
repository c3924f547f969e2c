"""What an operation on one key does to its value: the model that a linear order must follow.

It orders nothing: it says what each operation sees and leaves behind, given the value before it.

1. The value of a key is a text, or None while the key is absent; every key begins absent.
2. An operation that was acknowledged (`ok`) took effect once, between invocation and completion.
   One of unknown end (`info`) may take effect at any time after its invocation, or never. A failed
   one never did. A get without an answer tells nothing and is left out.
3. An acknowledged delete leaves the key absent. Whether it was there before is not told: stores
   differ in what they answer then, so nothing is concluded from it.
4. A delete that was told NOT_FOUND changed nothing, and saw that the key was absent: to the order
   it is a get that found nothing.
5. A compare-and-set that succeeded saw `expected` and left `value`, with nothing in between. One
   that failed is left out: it may have failed for any reason.
6. `incr` adds its value, a whole number in decimal text, or 1; an absent key counts as 0. `append`
   adds its text at the end. Where they were told what they made (the sum, the length in bytes) they
   saw that, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import TypeAlias

import msgspec

from kvlab.history import MISSING, Function, Op

NEVER = 2**62  # the place of an end that does not come
MADE = frozenset({"incr", "append"})  # what they leave depends on what was there


class Mark(Enum):
    """What is no value: NOTHING is seen or written; or the operation is REFUSED in this state."""

    NOTHING = "nothing"
    REFUSED = "refused"


State: TypeAlias = str | None
StateOrMark: TypeAlias = str | Mark | None


class Call(msgspec.Struct, frozen=True, gc=False):
    """One operation as the order sees it; `start` and `end` are places in the history.

    `sees` is the value it needs to find, `writes` the one it leaves; NOTHING where there is none,
    or where it depends on the value before (`incr`, `append`).
    """

    op: Op
    f: Function
    start: int
    end: int
    sure: bool
    sees: StateOrMark
    writes: StateOrMark


def calls_of(ops: Iterable[Op]) -> list[Call]:
    """Return what takes part in the order, by the places of the invocations."""
    calls = [call for op in ops if (call := _call(op)) is not None]
    calls.sort(key=lambda call: call.start)
    return calls


def _call(op: Op) -> Call | None:
    f, sure = op.f, op.outcome == "ok"
    if f == "delete" and op.outcome == "fail" and op.error == MISSING:
        f, sure = "get", True
    if not sure and (f == "get" or op.outcome == "fail"):
        return None
    sees: StateOrMark = Mark.NOTHING
    writes: StateOrMark = Mark.NOTHING
    if f == "get":
        sees = op.value if op.f == "get" else None
    elif f == "cas":
        sees, writes = op.expected, op.value
    elif f == "set":
        writes = op.value
    elif f == "delete":
        writes = None
    end = op.end if sure and op.end is not None else NEVER
    return Call(op, f, op.start, end, sure, sees, writes)


def _get(state: State, call: Call) -> StateOrMark:
    return state if state == call.sees else Mark.REFUSED


def _set(_: State, call: Call) -> StateOrMark:
    return call.writes


def _cas(state: State, call: Call) -> StateOrMark:
    return call.writes if state == call.sees else Mark.REFUSED


def _incr(state: State, call: Call) -> StateOrMark:
    try:
        made = str(int(state or "0") + int(call.op.value or "1"))
    except ValueError:  # no number is there, or none was given: no store can have done this
        return Mark.REFUSED
    return made if call.op.result in (None, made) else Mark.REFUSED


def _append(state: State, call: Call) -> StateOrMark:
    made = (state or "") + (call.op.value or "")
    told = call.op.result
    return made if told is None or told == str(len(made.encode())) else Mark.REFUSED


STEPS: dict[Function, Callable[[State, Call], StateOrMark]] = {
    "get": _get,
    "set": _set,
    "delete": _set,
    "cas": _cas,
    "incr": _incr,
    "append": _append,
}
"""What each function makes of a value; REFUSED where it cannot have happened in that state."""
