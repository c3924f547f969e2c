"""The commands of RESP clients in the linear namespace (SELECT 1). No I/O, no order.

Those that read and write in one step exist only there. Operations are those of JSON clients
(`linear_client`); here they get Redis' names and replies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvlab.kv.answer import LIGHT_BYTES_MAX
from kvlab.kv.operation import Operation
from kvlab.kv.register import INTEGER_DIGITS_MAX, TELL, Outcome
from kvlab.kv.resp_answer import RespBatch, as_bytes, as_stored, failure
from kvlab.wire.peer import DELETE, READ
from kvlab.wire.resp_encode import NULL, OK, bulk, error, integer

if TYPE_CHECKING:
    from kvlab.kv.resp_client import RespClient

DB = 1
"""The number by which RESP clients select the linear namespace."""

NOT_AN_INTEGER = error("ERR value is not an integer or out of range")  # clients know this sentence

Tell = Callable[[Outcome, int], bytes]
"""Makes the reply of an outcome, in a version of the protocol."""


def submit(
    client: RespClient,
    batch: RespBatch,
    key: bytes,
    kind: str,
    args: list[Any],
    tell: Tell,
    now_us: int,
) -> None:
    """Begin an operation whose reply has the next place in the batch."""
    index = len(batch.replies)
    batch.replies.append(b"")

    def end(outcome: Outcome) -> None:
        data = batch.replies[index] = _reply(outcome, tell, batch.protocol)
        if len(data) > LIGHT_BYTES_MAX:
            batch.heavy_bytes += len(data)

    _begin(client, batch, key, kind, args, end, now_us)


def operate(client: RespClient, batch: RespBatch, key: bytes, value: Any, now_us: int) -> None:
    """Begin one operation of a command with several keys; its place is the last of the batch.

    `value` is what to write, READ or DELETE.
    """
    index = len(batch.replies) - 1

    def end(outcome: Outcome) -> None:
        if outcome.code and outcome.code != "NOT_FOUND":
            batch.fail(index, "", outcome.code, outcome.error)
        elif value is READ or outcome.code:
            batch.answer(index, "", outcome.value)

    kind, args = ("get", []) if value is READ else ("delete", [])
    if value is not READ and value is not DELETE:
        kind, args = "set", [value]
    _begin(client, batch, key, kind, args, end, now_us)


def _begin(
    client: RespClient,
    batch: RespBatch,
    key: bytes,
    kind: str,
    args: list[Any],
    end: Callable[[Outcome], None],
    now_us: int,
) -> None:
    node = client.node
    quorum, clock = node.quorum, node.state.clock
    batch.pending += 1

    def ended(_: Operation, outcome: Outcome) -> None:
        end(outcome)
        quorum.end(batch)

    until_us = now_us + node.state.settings.timeout_us
    node.linear.submit(Operation(key, kind, args, clock.next(now_us), until_us, ended))


def _reply(outcome: Outcome, tell: Tell, protocol: int) -> bytes:
    if outcome.code == "NOT_A_NUMBER":
        return NOT_AN_INTEGER
    if outcome.code in ("", "NOT_FOUND", "CONFLICT"):
        return tell(outcome, protocol)
    return failure(outcome.code, outcome.error)


def ok_or_null(outcome: Outcome, protocol: int) -> bytes:
    """Acknowledge a write, or say that its condition did not hold."""
    return NULL[protocol] if outcome.code else OK


def _one_or_zero(outcome: Outcome, _protocol: int) -> bytes:
    return integer(0 if outcome.code else 1)


def _number(outcome: Outcome, _protocol: int) -> bytes:
    return integer(outcome.value)


def _value_or_null(outcome: Outcome, protocol: int) -> bytes:
    return NULL[protocol] if outcome.value is None else bulk(as_bytes(outcome.value))


# What follows is called when the arguments' number and sizes are known to be right.


def set_(
    client: RespClient, batch: RespBatch, key: bytes, value: Any, options: int, now_us: int
) -> None:
    """SET key value [NX | XX] [GET] [KEEPTTL]; `options` are those of register.py."""
    tell = _value_or_null if options & TELL else ok_or_null
    kind, args = ("write", [value, options]) if options else ("set", [value])
    submit(client, batch, key, kind, args, tell, now_us)


def get(client: RespClient, batch: RespBatch, args: list[bytes], now_us: int) -> None:
    """GET key."""
    submit(client, batch, args[1], "get", [], _value_or_null, now_us)


def setnx(client: RespClient, batch: RespBatch, args: list[bytes], now_us: int) -> None:
    """SETNX key value."""
    submit(client, batch, args[1], "cas", [None, as_stored(args[2])], _one_or_zero, now_us)


def getset(client: RespClient, batch: RespBatch, args: list[bytes], now_us: int) -> None:
    """GETSET key value."""
    set_(client, batch, args[1], as_stored(args[2]), TELL, now_us)


def getdel(client: RespClient, batch: RespBatch, args: list[bytes], now_us: int) -> None:
    """GETDEL key."""
    submit(client, batch, args[1], "take", [], _value_or_null, now_us)


def getex(client: RespClient, batch: RespBatch, key: bytes, at_us: int, now_us: int) -> None:
    """GETEX key with an end, 0: it stays."""
    submit(client, batch, key, "end", [at_us], _value_or_null, now_us)


def append(client: RespClient, batch: RespBatch, args: list[bytes], now_us: int) -> None:
    """APPEND key value."""
    submit(client, batch, args[1], "append", [as_stored(args[2])], _number, now_us)


def counter(sign: int) -> Callable[[RespClient, RespBatch, list[bytes], int], bytes | None]:
    """Return the handler of INCR and INCRBY, or (-1) of DECR and DECRBY."""

    def handler(
        client: RespClient, batch: RespBatch, args: list[bytes], now_us: int
    ) -> bytes | None:
        by = 1
        if len(args) > 2:
            text = args[2]
            digits = text[1:] if text[:1] == b"-" else text
            if not digits.isdigit() or len(digits) > INTEGER_DIGITS_MAX:
                return NOT_AN_INTEGER
            by = int(text)
        if not -(2**63) <= sign * by < 2**63:
            return NOT_AN_INTEGER
        submit(client, batch, args[1], "add", [sign * by], _number, now_us)
        return None

    return handler
