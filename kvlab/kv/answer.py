"""The places of a batch's replies, from a prepared fragment to a full reply. Bytes only at the end.

It decides nothing about an operation. A plain success is kept as a fragment, the JSON text up to the
value, which is the cheapest thing to make and to join; whatever has more to say becomes a Reply.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kvlab.storage.memory import Plain, Value
from kvlab.wire.json_lines import Reply, encode_fragments, encode_replies, fragment, reply_class
from kvlab.wire.value import live

_encode = msgspec.json.Encoder().encode

MISSING = "Key does not exist"
REPLY_BYTES_MAX = 4 * 1024 * 1024  # of values in one batch; what was asked beyond them waits
LIGHT_BYTES_MAX = 4096  # values up to this are not counted: a read of a socket asks for few enough


class Batch:
    """The replies to one read of a client's socket; they leave together, in order."""

    __slots__ = (
        *("camel", "conn", "heavy_bytes", "now_us", "pending", "plain", "replies", "stamp"),
        "whole",
    )

    def __init__(self, conn: Any, stamp: str, now_us: int, *, camel: bool) -> None:
        self.conn = conn  # opaque: the session whose client asked
        self.stamp = stamp
        self.now_us = now_us  # when it was asked: what has ended by then is not there
        self.camel = camel
        self.replies: list[bytes | Reply] = []
        self.plain = True  # nothing but fragments in `replies`
        self.pending = 0  # operations that wait for a quorum
        self.heavy_bytes = 0  # of large values in the replies
        self.whole = b""  # all replies, where they were made as bytes at once

    @classmethod
    def of(cls, conn: Any, data: bytes) -> Batch:
        """Return a batch that has ended, from all its replies."""
        batch = cls(conn, "", 0, camel=False)
        batch.whole = data
        batch.heavy_bytes = len(data)
        return batch

    def acknowledge(self, key: str) -> None:
        """Add the reply of a write that succeeds unless it is changed later."""
        self.replies.append(acknowledgement(key, camel=self.camel))

    def fail(self, index: int, key: str, code: str, error: str) -> None:
        """Make the reply at `index` an error."""
        reply = self.full(index, key)
        reply.status, reply.value, reply.error, reply.code = "ERROR", "", error, code

    def answer(self, index: int, key: str, value: Value | None) -> None:
        """Make the reply at `index` the answer of a read; None: there is no such key."""
        plain = live(value, self.now_us)
        if plain is None:
            self.fail(index, key, "NOT_FOUND", MISSING)
            return
        text = as_text(plain)
        if len(text) > LIGHT_BYTES_MAX:
            self.heavy_bytes += len(text)
        reply = self.replies[index]
        if isinstance(reply, bytes):
            self.replies[index] = fragment(key, text, self.camel)
        else:
            reply.status, reply.value, reply.error, reply.code = "SUCCESS", text, "", ""

    def full(self, index: int, key: str) -> Reply:
        """Return the reply at `index` with all its fields, to be changed in place."""
        reply = self.replies[index]
        if isinstance(reply, bytes):
            value = ""
            if reply:
                # The value is the last field of a fragment; read it back rather than carry it.
                value = msgspec.json.decode(reply + b"}")["Value" if self.camel else "value"]
            reply = success(key, value, self.stamp, camel=self.camel)
            self.replies[index] = reply
            self.plain = False
        return reply

    def encode(self) -> bytes:
        """Return all replies as bytes, in order."""
        if self.whole:
            return self.whole
        if self.plain:
            return encode_fragments(self.replies, self.stamp, self.camel)  # type: ignore[arg-type]
        return b"".join(
            encode_fragments((reply,), self.stamp, self.camel)
            if isinstance(reply, bytes)
            else encode_replies((reply,))
            for reply in self.replies
        )


def acknowledgement(key: str, *, camel: bool) -> bytes:
    """Return the fragment of a successful write."""
    if camel:
        return b'{"Type":"RESPONSE","Key":%b,"Value":""' % _encode(key)
    return b'{"type":"RESPONSE","key":%b,"value":""' % _encode(key)


def success(key: str, value: str, stamp: str, *, camel: bool) -> Reply:
    """Return a full reply that says SUCCESS."""
    return reply_class(camel)("RESPONSE", key, value, stamp, "SUCCESS", "")


def failure(key: str, code: str, error: str, stamp: str, *, camel: bool) -> Reply:
    """Return a full reply that says ERROR."""
    return reply_class(camel)("RESPONSE", key, "", stamp, "ERROR", error, code)


def as_text(value: Plain) -> str:
    """Return a value as JSON text; bytes that are no UTF-8 (other protocols) are shown replaced."""
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
