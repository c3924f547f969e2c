"""Requests to bytes, and replies to what they mean for the history and the counters.

It sends nothing. The full grammar of messages is in wire; a load generator needs this much only.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kvlab.history import Outcome, outcome_of
from kvlab.workload.stream import Request

SUCCESS_MARK: Final = b'"status":"SUCCESS"'
MISSING_MARK: Final = b'"error":"Key does not exist"'
ENDING: Final = "ENDING"  # the code of a node that is being stopped: go elsewhere

_encode = msgspec.json.encode


class Reply(msgspec.Struct, gc=False):
    """The fields of a reply that matter here."""

    status: str = ""
    value: str | None = None
    error: str | None = None
    code: str | None = None
    node: str | None = None
    version: str | int | None = None
    degraded: bool | None = None


class Encoder:
    """Encodes requests as compact JSON lines with constant extra fields."""

    def __init__(self, *, level: str | None = None, meta: bool = False) -> None:
        extra = b""
        if level:
            extra += b',"level":' + _encode(level)
        if meta:
            extra += b',"meta":true'
        self._end = extra + b"}\n"

    def encode(self, request: Request) -> bytes:
        """Return one line."""
        f, key, value = request
        head = b'{"type":"' + f.upper().encode() + b'","key":' + _encode(key)
        if value is not None:
            head += b',"value":' + _encode(value)
        return head + self._end


def classify(f: str, reply: Reply) -> tuple[Outcome, str]:
    """Return what became of an operation, and the kind of error ("" when there is none)."""
    return outcome_of(f, reply.status, reply.code or "", reply.error or "")
