"""The commands of RESP clients about values that end by themselves, and the options of SET. No I/O.

A SET can say when its value ends in both namespaces; to change the end of a value that is there is a
step that reads and writes, and so for the linear one alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvlab.kv import resp_linear
from kvlab.kv.register import Outcome
from kvlab.kv.resp_answer import Remaining, RespBatch, as_stored
from kvlab.kv.resp_refused import SET_OPTIONS
from kvlab.kv.resp_words import shown
from kvlab.wire.peer import READ
from kvlab.wire.resp_encode import OK, error, integer
from kvlab.wire.value import AT_US_MAX, Expiring

if TYPE_CHECKING:
    from kvlab.kv.resp_client import RespClient

SECOND_US = 1_000_000
MS_US = 1_000
CONDITIONS = (b"NX", b"XX", b"GET")
_ENDS = {  # option of SET -> (its unit, whether it counts from now)
    b"EX": (SECOND_US, True),
    b"PX": (MS_US, True),
    b"EXAT": (SECOND_US, False),
    b"PXAT": (MS_US, False),
}
_DIGITS_MAX = 19
_SYNTAX = error("ERR syntax error")


def set_options(options: list[bytes], now_us: int) -> tuple[bytes, int] | bytes:
    """Return the condition and the end (0: none) that the options of a SET say, or an error."""
    condition, at_us = b"", 0
    rest = iter(options)
    for option in rest:
        name = option.upper()
        if name in CONDITIONS and not condition:
            condition = name
        elif name in _ENDS and not at_us:
            unit_us, from_now = _ENDS[name]
            end = end_of(next(rest, b""), unit_us, now_us if from_now else 0)
            if end is None:
                return resp_linear.NOT_AN_INTEGER
            if end <= (now_us if from_now else 0):
                return error("ERR invalid expire time in 'set' command")
            at_us = end
        else:
            why = SET_OPTIONS.get(name)
            return error(f"ERR SET {shown(name)}: {why}" if why else "ERR syntax error")
    return condition, at_us


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
