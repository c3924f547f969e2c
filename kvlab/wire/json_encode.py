"""Messages -> bytes for the JSON protocol, and the time as text.

It keeps no queue and no connection; one call makes the bytes of one whole batch.

Three ways to write replies, from general to fast (ns per reply in batches of 16 with values of 100
bytes, CPython 3.11 on one core; compare the ratios, not the numbers):

    encode_replies(replies)              300  any reply; half of it is building the structs
    encode_success(keys, values, ..)     240  found values; 67 for acknowledgements (values=None)
    encode_fragments(fragments, ..)       45  found values whose text was made before by `fragment`

A fragment is `{"type":"RESPONSE","key":..,"value":..` of one key, made once (300 ns) and good for
as long as the value stays: worth keeping beside a value that is read more than it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import repeat

import msgspec

from kvlab.wire.json_messages import CamelReply, Reply, camel_twin

_ENCODER = msgspec.json.Encoder()
_encode, _encode_lines = _ENCODER.encode, _ENCODER.encode_lines
_LATEST_TIME_MS = 253_402_300_799_999  # the end of year 9999


class _Found(msgspec.Struct, gc=False, tag_field="type", tag="RESPONSE"):
    """A successful reply: the same text as Reply, cheaper to build."""

    key: str
    value: str
    timestamp: str
    status: str = "SUCCESS"
    error: str = ""


_CamelFound = camel_twin(_Found, "_CamelFound", "The same, written as `Type`, `Key`, ...")


class _Wanted(msgspec.Struct, gc=False, omit_defaults=True):
    """A request as a client writes it: `type` and `key` always, the rest where not default."""

    type: str
    key: str
    value: str | None = None
    ns: str = ""
    r: int = 0
    w: int = 0
    level: str = ""
    timeout_ms: int = 0
    req_id: str | int | None = None
    meta: bool = False
    expected: str | None = None
    by: int = 1
    retry: bool = False
    timestamp: str = ""
    ttl_ms: int = 0


def encode_replies(replies: Sequence[Reply], camel: bool = False) -> bytes:
    """Write replies in order, each a compact document and a newline.

    Every reply is written in the casing of its class (build `reply_class(request.camel)` and mixed
    batches need nothing else); with `camel`, plain ones are written as `Type`, `Key`, ... too.
    """
    if camel:
        replies = [reply if reply.camel else as_camel(reply) for reply in replies]
    return _encode_lines(replies)


def reply_class(camel: bool) -> type[Reply]:
    """Return the class that writes replies in the wanted casing."""
    return CamelReply if camel else Reply


def as_camel(reply: Reply) -> Reply:
    """Copy a reply into the class that writes `Type`, `Key`, ..."""
    return CamelReply(*msgspec.structs.astuple(reply))


def encode_success(
    keys: Sequence[str], values: Sequence[str] | None, timestamp: str, camel: bool = False
) -> bytes:
    """Write a batch of plain successes: found `values`, or acknowledgements if `values` is None."""
    if not keys:
        return b""
    if values is not None:
        found = _CamelFound if camel else _Found
        return _encode_lines(list(map(found, keys, values, repeat(timestamp))))
    head, between = _acknowledgement(timestamp, camel)
    # A newline inside a key is escaped, so raw newlines are exactly the ends of the encoded keys.
    return head + _encode_lines(keys).replace(b"\n", between)[: -len(head)]


def fragment(key: str, value: str, camel: bool = False) -> bytes:
    """Make the part of a successful reply that does not change while the value stays."""
    if camel:
        return b'{"Type":"RESPONSE","Key":%b,"Value":%b' % (_encode(key), _encode(value))
    return b'{"type":"RESPONSE","key":%b,"value":%b' % (_encode(key), _encode(value))


def encode_fragments(fragments: Iterable[bytes], timestamp: str, camel: bool = False) -> bytes:
    """Write a batch of found values from their fragments (all of the casing `camel`)."""
    tail = success_tail(timestamp, camel)
    text = tail.join(fragments)
    return text + tail if text else b""


def encode_request(
    verb: str,
    key: str = "",
    value: str | None = None,
    *,
    ns: str = "",
    r: int = 0,
    w: int = 0,
    level: str = "",
    timeout_ms: int = 0,
    req_id: str | int | None = None,
    meta: bool = False,
    expected: str | None = None,
    by: int = 1,
    retry: bool = False,
    timestamp: str = "",
    ttl_ms: int = 0,
) -> bytes:
    """Write one request as a client sends it: a compact document and a newline.

    Raises UnicodeEncodeError if a text holds a lone surrogate (it is not UTF-8).
    """
    wanted = _Wanted(
        *(verb, key, value, ns, r, w, level, timeout_ms, req_id, meta),
        *(expected, by, retry, timestamp, ttl_ms),
    )
    return _encode(wanted) + b"\n"


def rfc3339(now_us: int) -> str:
    """Write a time (microseconds since 1970, UTC) as `2026-11-23T15:05:37.609Z`.

    Times before 1970 and after 9999 are brought to the nearest that can be written.
    """
    return _rfc3339(now_us // 1000)


@lru_cache(maxsize=4)
def _rfc3339(now_ms: int) -> str:
    seconds, milliseconds = divmod(min(max(now_ms, 0), _LATEST_TIME_MS), 1000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return f"{moment.isoformat()}.{milliseconds:03d}Z"


@lru_cache(maxsize=8)
def success_tail(timestamp: str, camel: bool) -> bytes:
    """Return what follows the value of a successful reply."""
    if camel:
        return b',"Timestamp":%b,"Status":"SUCCESS","Error":""}\n' % _encode(timestamp)
    return b',"timestamp":%b,"status":"SUCCESS","error":""}\n' % _encode(timestamp)


@lru_cache(maxsize=8)
def _acknowledgement(timestamp: str, camel: bool) -> tuple[bytes, bytes]:
    """Return what precedes a key and what lies between two keys, in acknowledgements."""
    if camel:
        head = b'{"Type":"RESPONSE","Key":'
        return head, b',"Value":""' + success_tail(timestamp, camel) + head
    head = b'{"type":"RESPONSE","key":'
    return head, b',"value":""' + success_tail(timestamp, camel) + head
