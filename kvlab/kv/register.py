"""What one operation of the linear namespace does to the register of a key. Pure functions.

How a register becomes the next one for the whole cluster is not decided here: see kv/proposer.py.

Invariants:

1. An operation whose id is in the window has happened; it is not done again, and gets the outcome that
   it had.
2. `step` gives a register with one change more, or the very register where nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from kvlab.kv.answer import MISSING
from kvlab.storage.memory import Value
from kvlab.storage.registers import WINDOW, Register, Remembered
from kvlab.wire.limits import VALUE_LIMIT_BYTES
from kvlab.wire.peer import FrameError, is_version

_VALUES = (str, bytes, type(None))
INTEGER_BITS = 64
INTEGER_DIGITS_MAX = 20
REMEMBERED_BYTES_MAX = 1024  # of an outcome's value in a window
EXISTS = "Key exists already"
DIFFERS = "the value is not the expected one"
NOT_A_NUMBER = "the value is not a whole number of 64 bits"
TOO_FAR = "the sum is not a whole number of 64 bits"
TOO_LARGE = f"the value would have more than {VALUE_LIMIT_BYTES} bytes"
OUTCOME_GONE = "it was done before; its outcome is no longer known"


class Outcome(NamedTuple):
    """How an operation ended: `code` is "" for success; `value` is what it tells."""

    code: str = ""
    error: str = ""
    value: Any = None


DONE = Outcome()
ABSENT = Outcome("NOT_FOUND", MISSING)


def step(
    register: Register, kind: str, args: list[Any], request: Any, ballot: int
) -> tuple[Register, Outcome]:
    """Do one operation, to be proposed under a ballot; `request` is the id that tells it from others.

    `kind` is one of KINDS and `args` are as many as it takes.
    """
    value, outcome, changed = KINDS[kind][1](register.value, *args)
    if not changed:
        return register, outcome
    window = (*register.window, _entry(request, ballot, outcome.value))
    forgot = max((register.forgot, *(each[1] for each in window[:-WINDOW])))
    return Register(ballot, value, register.changes + 1, forgot, window[-WINDOW:]), outcome


def recall(register: Register, request: Any) -> Outcome | None:
    """Return the outcome of an operation that was done before, or None if it is not known."""
    for known, _, told, value in register.window:
        if known == request:
            return Outcome(value=value) if told else Outcome("UNKNOWN", OUTCOME_GONE)
    return None


def _entry(request: Any, ballot: int, value: Any) -> Remembered:
    if isinstance(value, str | bytes) and len(value) > REMEMBERED_BYTES_MAX:
        return request, ballot, False, None
    return request, ballot, True, value


Step = tuple[Value | None, Outcome, bool]  # the value that follows, the outcome, whether it changed


def _get(value: Value | None) -> Step:
    return value, (ABSENT if value is None else Outcome(value=value)), False


def _set(_: Value | None, new: Value) -> Step:
    return new, DONE, True


def _delete(value: Value | None) -> Step:
    return (None, ABSENT, False) if value is None else (None, DONE, True)


def _cas(value: Value | None, expected: Value | None, new: Value) -> Step:
    if as_bytes(value) == as_bytes(expected):
        return new, DONE, True
    if value is None:
        return value, Outcome("CONFLICT", MISSING), False
    return value, Outcome("CONFLICT", EXISTS if expected is None else DIFFERS), False


def _add(value: Value | None, by: int) -> Step:
    number = 0 if value is None else as_number(value)
    if number is None:
        return value, Outcome("NOT_A_NUMBER", NOT_A_NUMBER), False
    total = number + by
    if not -(1 << INTEGER_BITS - 1) <= total < 1 << INTEGER_BITS - 1:
        return value, Outcome("NOT_A_NUMBER", TOO_FAR), False
    return str(total), Outcome(value=total), True


def _append(value: Value | None, more: Value) -> Step:
    joined = more if value is None else _joined(value, more)
    size = len(as_bytes(joined) or b"")
    if size > VALUE_LIMIT_BYTES:
        return value, Outcome("TOO_LARGE", TOO_LARGE), False
    return joined, Outcome(value=size), True


def _replace(value: Value | None, new: Value) -> Step:
    """Write where there is a value."""
    return (None, ABSENT, False) if value is None else (new, DONE, True)


def _swap(value: Value | None, new: Value) -> Step:
    """Write, and tell what was there."""
    return new, Outcome(value=value), True


def _take(value: Value | None) -> Step:
    """Delete, and tell what was there."""
    return (None, ABSENT, False) if value is None else (None, Outcome(value=value), True)


KINDS: dict[str, tuple[int, Callable[..., Step]]] = {
    "get": (0, _get),
    "set": (1, _set),
    "delete": (0, _delete),
    "cas": (2, _cas),
    "add": (1, _add),
    "append": (1, _append),
    "replace": (1, _replace),
    "swap": (1, _swap),
    "take": (0, _take),
}
"""How many arguments each kind has, and what it does."""


def fits(kind: str, args: list[Any]) -> bool:
    """Whether these are arguments of an operation of this kind."""
    if kind not in KINDS or len(args) != KINDS[kind][0]:
        return False
    if kind == "add":
        return type(args[0]) is int
    if kind == "cas" and args[0] is None:
        args = args[1:]
    return all(type(arg) in (str, bytes) for arg in args)


def as_number(value: Value) -> int | None:
    """Return the whole number that a value is the text of, or None."""
    if len(value) > INTEGER_DIGITS_MAX:
        return None
    try:
        number = int(value)
    except ValueError:
        return None
    # "+1", " 1", "1_0" and "01" are texts of a number that would come back as another text.
    return number if as_bytes(value) == str(number).encode() else None


def as_bytes(value: Value | None) -> bytes | None:
    """Return a value as bytes, whichever protocol wrote it."""
    return value.encode() if isinstance(value, str) else value


def _joined(value: Value, more: Value) -> Value:
    if isinstance(value, str) and isinstance(more, str):
        return value + more
    joined = (as_bytes(value) or b"") + (as_bytes(more) or b"")
    try:
        return joined.decode()
    except UnicodeDecodeError:
        return joined


def register_of(ballot: int, body: Any) -> Register:
    """Return a register from a ballot and the rest as a list; FrameError if it is none."""
    match body:
        case [value, int(changes), forgot, list() | tuple() as window] if (
            type(value) in _VALUES and changes >= 0 and is_version(forgot) and len(window) <= WINDOW
        ):
            pass
        case _:
            raise FrameError("a register is a value, a count, a ballot and a window")
    for entry in window:
        match entry:
            case [_, int(), bool(), told] if type(told) in (*_VALUES, int):
                pass
            case _:
                raise FrameError("a window holds the ids of requests with what they told")
    return Register(ballot, value, changes, forgot, tuple(map(tuple, window)))
