"""Requests of clients in the linear namespace: from a JSON request to an operation, and its reply.

It agrees on nothing (`linear`) and knows no RESP (`resp_linear`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kvlab.kv.answer import Batch
from kvlab.kv.operation import Operation
from kvlab.kv.quorum import Quorum
from kvlab.kv.register import Outcome
from kvlab.storage.memory import Value
from kvlab.wire.json_lines import Request
from kvlab.wire.value import Expiring

NAMESPACE = "linear"
ONLY_LINEAR = ("CAS", "INCR", "SETNX", "APPEND")
INCREMENT_BITS = 63

_NEEDS_VALUE = ("SET", "CAS", "SETNX", "APPEND")


def problem(request: Request) -> str:
    """Say what is wrong with a request for this namespace, or return ""."""
    if request.level or request.r or request.w:
        return "levels, r and w belong to the eventual namespace; here every operation needs a majority"
    if request.type in _NEEDS_VALUE and request.value is None:
        return f'{request.type} needs a "value" that is a string'
    if request.type == "INCR" and abs(request.by) >> INCREMENT_BITS:
        return '"by" must be a whole number of 64 bits'
    return ""


def to_store(request: Request, now_us: int) -> Value | None:
    """Return what a SET writes."""
    if request.ttl_ms and request.value is not None:
        return Expiring(request.value, now_us + request.ttl_ms * 1000)
    return request.value


def kind_of(request: Request, now_us: int) -> tuple[str, list[Any]]:
    """Return the kind of operation that a request asks for, and its arguments."""
    value = request.value
    match request.type:
        case "GET":
            return "get", []
        case "SET":
            return "set", [to_store(request, now_us)]
        case "DELETE":
            return "delete", []
        case "CAS":
            return "cas", [request.expected, value]
        case "INCR":
            return "add", [request.by]
        case "SETNX":
            return "cas", [None, value]
        case _:
            return "append", [value]


def operation_of(
    request: Request, batch: Batch, index: int, quorum: Quorum, default_id: int, deadline_us: int
) -> Operation:
    """Return the operation whose reply stands at `index` of the batch."""
    kind, args = kind_of(request, batch.now_us)
    assert request.key is not None
    key = request.key

    def end(_: Operation, outcome: Outcome) -> None:
        if outcome.code:
            batch.fail(index, key, outcome.code, outcome.error)
        elif outcome.value is not None:
            value = outcome.value
            batch.answer(index, key, str(value) if isinstance(value, int) else value)
        quorum.end(batch)

    request_id = default_id if request.req_id is None else request.req_id
    batch.pending += 1
    return Operation(
        key.encode(),
        kind,
        args,
        request_id,
        deadline_us,
        end,
        retry=request.retry,
        since_us=_time_us(request.timestamp) if request.retry else 0,
    )


def _time_us(text: str | None) -> int:
    """Return the time of a request in Unix microseconds; 0 where it gives none that can be read."""
    try:
        return max(0, int(datetime.fromisoformat(text or "").timestamp() * 1_000_000))
    except (ValueError, OverflowError):
        return 0
