"""The commands of RESP clients about values that end by themselves, and the options of SET. No I/O.

A SET can say when its value ends in both namespaces; to change the end of a value that is there is a
step that reads and writes, and so for the linear one alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvlab.kv import resp_linear
from kvlab.kv.register import IF_ABSENT, IF_THERE, KEEP_END, TELL, Outcome
from kvlab.kv.resp_answer import Remaining, RespBatch, as_stored
from kvlab.kv.resp_refused import CONDITIONAL, SET_OPTIONS
from kvlab.kv.resp_words import shown
from kvlab.wire.peer import READ
from kvlab.wire.resp_encode import NULL, OK, error, integer
from kvlab.wire.value import AT_US_MAX, Expiring

if TYPE_CHECKING:
    from kvlab.kv.resp_client import RespClient

SECOND_US = 1_000_000
MS_US = 1_000
_FLAGS = {b"NX": IF_ABSENT, b"XX": IF_THERE, b"GET": TELL, b"KEEPTTL": KEEP_END}
_ENDS = {  # option of SET and GETEX -> (its unit, whether it counts from now)
    b"EX": (SECOND_US, True),
    b"PX": (MS_US, True),
    b"EXAT": (SECOND_US, False),
    b"PXAT": (MS_US, False),
}
_DIGITS_MAX = 19
_SYNTAX = error("ERR syntax error")


def set_options(options: list[bytes], now_us: int) -> tuple[int, int] | bytes:
    """Return what the options of a SET say, or an error: (options of register.py, end; 0: none)."""
    flags, at_us = 0, 0
    rest = iter(options)
    for option in rest:
        name = option.upper()
        if name in _FLAGS and not flags & _FLAGS[name]:
            flags |= _FLAGS[name]
        elif name in _ENDS and not at_us:
            end = _end(name, next(rest, b""), "set", now_us)
            if isinstance(end, bytes):
                return end
            at_us = end
        else:
            why = SET_OPTIONS.get(name)
            return error(f"ERR SET {shown(name)}: {why}") if why else _SYNTAX
    if flags & IF_ABSENT and flags & IF_THERE:
        return error("ERR SET takes NX or XX, not both")
    return _SYNTAX if at_us and flags & KEEP_END else (flags, at_us)


def _end(name: bytes, text: bytes, command: str, now_us: int) -> int | bytes:
    """Return the end that an option EX, PX, EXAT or PXAT says, or an error."""
    unit_us, from_now = _ENDS[name]
    since_us = now_us if from_now else 0
    end = end_of(text, unit_us, since_us)
    if end is None:
        return resp_linear.NOT_AN_INTEGER
    return error(f"ERR invalid expire time in '{command}' command") if end <= since_us else end


def getex(client: RespClient, batch: RespBatch, args: list[bytes], now_us: int) -> bytes | None:
    """GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]; without an option it is GET."""
    name = args[2].upper() if len(args) > 2 else b""
    at_us: int | bytes = 0
    if name in _ENDS and len(args) == 4:
        at_us = _end(name, args[3], "getex", now_us)
    elif len(args) > 2 and (name != b"PERSIST" or len(args) > 3):
        at_us = _SYNTAX
    if isinstance(at_us, bytes):
        return at_us
    if client.db == resp_linear.DB:
        if name:
            resp_linear.getex(client, batch, args[1], at_us, now_us)
        else:
            resp_linear.get(client, batch, args, now_us)
        return None
    if name:
        return error(f"ERR GETEX {name.decode()}: {CONDITIONAL}")
    batch.replies.append(NULL[batch.protocol])
    client.node.coordinator.operate(batch, args[1], READ, now_us)
    return None


def end_of(text: bytes, unit_us: int, since_us: int) -> int | None:
    """Return the time that a number of units stands for, in Unix microseconds; None if it is none."""
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(digits) > _DIGITS_MAX:
        return None
    at_us = since_us + int(text) * unit_us
    return at_us if abs(at_us) <= AT_US_MAX else None


def setex(unit_us: int) -> Callable[[RespClient, RespBatch, list[bytes], int], bytes | None]:
    """Return the handler of SETEX and PSETEX: key, time, value."""

    def handler(
        client: RespClient, batch: RespBatch, args: list[bytes], now_us: int
    ) -> bytes | None:
        end = end_of(args[2], unit_us, now_us)
        if end is None:
            return resp_linear.NOT_AN_INTEGER
        if end <= now_us:
            name = args[0].decode().lower()
            return error(f"ERR invalid expire time in '{name}' command")
        value = Expiring(as_stored(args[3]), end)
        if client.db == resp_linear.DB:
            resp_linear.submit(
                client, batch, args[1], "set", [value], resp_linear.ok_or_null, now_us
            )
        else:
            batch.replies.append(OK)
            client.node.coordinator.operate(batch, args[1], value, now_us)
        return None

    return handler


def remaining(
    unit_us: int, *, absolute: bool = False
) -> Callable[[RespClient, RespBatch, list[bytes], int], bytes | None]:
    """Return the handler of TTL and PTTL, or (absolute) of EXPIRETIME and PEXPIRETIME."""

    def handler(
        client: RespClient, batch: RespBatch, args: list[bytes], now_us: int
    ) -> bytes | None:
        since_us = 0 if absolute else now_us
        told = Remaining(unit_us, since_us)
        if client.db != resp_linear.DB:
            batch.replies.append(batch.begin(told))
            client.node.coordinator.operate(batch, args[1], READ, now_us)
            return None

        def tell(outcome: Outcome, protocol: int) -> bytes:
            if not outcome.code:
                told.take(0, "", outcome.value)
            return told.reply(protocol)

        resp_linear.submit(client, batch, args[1], "ttl", [], tell, now_us)
        return None

    return handler


def expire(
    unit_us: int, *, absolute: bool = False
) -> Callable[[RespClient, RespBatch, list[bytes], int], bytes | None]:
    """Return the handler of EXPIRE and PEXPIRE, or (absolute) of EXPIREAT and PEXPIREAT."""

    def handler(
        client: RespClient, batch: RespBatch, args: list[bytes], now_us: int
    ) -> bytes | None:
        at_us = end_of(args[2], unit_us, 0 if absolute else now_us)
        if at_us is None:
            return resp_linear.NOT_AN_INTEGER
        # Past times end it at once; 0 stands for no end.
        _submit_end(client, batch, args[1], max(1, at_us), now_us)
        return None

    return handler


def persist(client: RespClient, batch: RespBatch, args: list[bytes], now_us: int) -> None:
    """PERSIST key."""
    _submit_end(client, batch, args[1], 0, now_us)


def _submit_end(client: RespClient, batch: RespBatch, key: bytes, at_us: int, now_us: int) -> None:
    def tell(outcome: Outcome, _protocol: int) -> bytes:
        return integer(0 if outcome.code else outcome.value)

    resp_linear.submit(client, batch, key, "expire", [at_us], tell, now_us)
