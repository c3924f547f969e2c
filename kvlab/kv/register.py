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
from kvlab.storage.memory import Plain, Value
from kvlab.storage.registers import WINDOW, Register, Remembered
from kvlab.wire.limits import VALUE_LIMIT_BYTES
from kvlab.wire.peer import FrameError, is_version
from kvlab.wire.value import Expiring, live, stored

_VALUES = (str, bytes, type(None))
INTEGER_BITS = 64
INTEGER_DIGITS_MAX = 20
REMEMBERED_BYTES_MAX = 1024  # of an outcome's value in a window
# Options of a write that looks first.
IF_ABSENT, IF_THERE, TELL, KEEP_END = 1, 2, 4, 8
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
    register: Register, kind: str, args: list[Any], request: Any, stamp: int, now_us: int
) -> tuple[Register, Outcome]:
    """Do one operation; `request` is the id that tells it from others, `stamp` a version of now.

    The register that follows has yet to be given its ballot. `kind` is one of KINDS and `args` are as
    many as it takes. What has expired by `now_us` is absent.
    """
    before = register.value if live(register.value, now_us) is not None else None
    value, outcome, changed = KINDS[kind][1](before, *args)
    if not changed:
        return register, outcome
    return _next(register, value, _entry(request, stamp, outcome.value)), outcome


def noted(register: Register, request: Any, stamp: int) -> Register:
    """Return the register that knows of a request without effect: a late copy has none either."""
    return _next(register, register.value, (request, stamp, False, None))


def _next(register: Register, value: Value | None, entry: Remembered) -> Register:
    window = (*register.window, entry)
    forgot = max((register.forgot, *(each[1] for each in window[:-WINDOW])))
    return Register(entry[1], value, register.changes + 1, forgot, window[-WINDOW:])


def recall(register: Register, request: Any) -> Outcome | None:
    """Return the outcome of an operation that was done before, or None if it is not known."""
    for known, _, told, value in register.window:
        if known == request:
            return Outcome(value=value) if told else Outcome("UNKNOWN", OUTCOME_GONE)
    return None


def _entry(request: Any, stamp: int, value: Any) -> Remembered:
    if isinstance(value, str | bytes) and len(value) > REMEMBERED_BYTES_MAX:
        return request, stamp, False, None
    return request, stamp, True, value


Step = tuple[Value | None, Outcome, bool]  # the value that follows, the outcome, whether it changed


def _get(value: Value | None) -> Step:
    return value, (ABSENT if value is None else Outcome(value=plain(value))), False


def _ttl(value: Value | None) -> Step:
    """Tell when the value ends, in Unix microseconds; 0: it stays."""
    if value is None:
        return value, ABSENT, False
    return value, Outcome(value=value.at_us if isinstance(value, Expiring) else 0), False


def _expire(value: Value | None, at_us: int) -> Step:
    """Say when the value ends, 0: it stays; tell whether that is something new."""
    if value is None:
        return value, ABSENT, False
    if not at_us:
        return plain(value), Outcome(value=int(isinstance(value, Expiring))), True
    return Expiring(plain(value), at_us), Outcome(value=1), True


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
    number = 0 if value is None else as_number(plain(value))
    if number is None:
        return value, Outcome("NOT_A_NUMBER", NOT_A_NUMBER), False
    total = number + by
    if not -(1 << INTEGER_BITS - 1) <= total < 1 << INTEGER_BITS - 1:
        return value, Outcome("NOT_A_NUMBER", TOO_FAR), False
    return _like(value, str(total)), Outcome(value=total), True


def _append(value: Value | None, more: Value) -> Step:
    joined = plain(more) if value is None else _joined(plain(value), plain(more))
    size = len(as_bytes(joined) or b"")
    if size > VALUE_LIMIT_BYTES:
        return value, Outcome("TOO_LARGE", TOO_LARGE), False
    return _like(value, joined), Outcome(value=size), True


def _write(value: Value | None, new: Value, options: int) -> Step:
    """Write as the options of a SET say (the sum of IF_ABSENT, IF_THERE, TELL and KEEP_END)."""
    tells = options & TELL
    old = None if value is None else plain(value)
    if (options & IF_ABSENT and value is not None) or (options & IF_THERE and value is None):
        return value, Outcome(value=old) if tells else Outcome("CONFLICT", EXISTS), False
    if options & KEEP_END:
        new = _like(value, plain(new))
    return new, Outcome(value=old) if tells else DONE, True


def _end(value: Value | None, at_us: int) -> Step:
    """Tell the value, and say when it ends, 0: it stays."""
    if value is None:
        return value, ABSENT, False
    told = Outcome(value=plain(value))
    if not at_us:
        return plain(value), told, isinstance(value, Expiring)
    return Expiring(plain(value), at_us), told, True


def _take(value: Value | None) -> Step:
    """Delete, and tell what was there."""
    return (None, ABSENT, False) if value is None else (None, Outcome(value=plain(value)), True)


KINDS: dict[str, tuple[int, Callable[..., Step]]] = {
    "get": (0, _get),
    "set": (1, _set),
    "delete": (0, _delete),
    "cas": (2, _cas),
    "add": (1, _add),
    "append": (1, _append),
    "take": (0, _take),
    "ttl": (0, _ttl),
    "expire": (1, _expire),
    "write": (2, _write),
    "end": (1, _end),
}
"""How many arguments each kind has, and what it does."""


def fits(kind: str, args: list[Any]) -> bool:
    """Whether these are arguments of an operation of this kind."""
    if kind not in KINDS or len(args) != KINDS[kind][0]:
        return False
    if kind in ("add", "expire", "end"):
        return type(args[0]) is int
    if kind == "write":
        if type(args[1]) is not int:
            return False
        args = args[:1]
    if kind == "cas" and args[0] is None:
        args = args[1:]
    return all(type(arg) in (str, bytes, Expiring) for arg in args)


def args_of(args: list[Any]) -> list[Any]:
    """Return arguments from what msgpack made of them; ValueError for values that are none."""
    return [arg if type(arg) is int else stored(arg) for arg in args]


def plain(value: Value) -> Plain:
    """Return a value without its end."""
    return value.value if isinstance(value, Expiring) else value


def _like(value: Value | None, new: Plain) -> Value:
    """Return a new value that ends when the one before it did."""
    return Expiring(new, value.at_us) if isinstance(value, Expiring) else new


def as_number(value: Plain) -> int | None:
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
    if value is None:
        return None
    bare = plain(value)
    return bare.encode() if isinstance(bare, str) else bare


def _joined(value: Plain, more: Plain) -> Plain:
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
            changes >= 0 and is_version(forgot) and len(window) <= WINDOW
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
    return Register(ballot, stored(value), changes, forgot, tuple(map(tuple, window)))
