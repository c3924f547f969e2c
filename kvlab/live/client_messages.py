"""Requests made from arguments, and what replies mean to a caller; both clients use it.

It does no I/O and leaves the bytes to kvlab.wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from kvlab.errors import UsageError
from kvlab.live.client_rules import BAD_REPLY, failure, is_missing, refusal
from kvlab.wire.json_lines import Reply, Request, encode_request

RequestLike: TypeAlias = tuple[str, str] | tuple[str, str, str] | Request

_EXTRAS = frozenset(
    {
        "ns",
        "r",
        "w",
        "level",
        "timeout_ms",
        "req_id",
        "meta",
        "expected",
        "by",
        "retry",
        "timestamp",
        "ttl_ms",
    }
)
_VALUED = ("SET", "CAS", "SETNX", "APPEND")  # whose value may be empty


def make_request(
    kind: str, key: str = "", value: str = "", extras: Mapping[str, Any] | None = None
) -> Request:
    """Return a request; raise UsageError for what no node would understand."""
    for name, text in (("key", key), ("value", value)):
        _check_text(name, text)
    given = {name: one for name, one in (extras or {}).items() if one is not None}
    unknown = given.keys() - _EXTRAS
    if unknown:
        raise UsageError(
            f"a request has no field {min(unknown)!r}",
            hint=f"the fields are {', '.join(sorted(_EXTRAS))}",
        )
    kind = kind.upper()
    return Request(type=kind, key=key, value=value if value or kind in _VALUED else None, **given)


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise UsageError(f"the {name} must be a text", hint="encode it first: json.dumps(value)")


def make_requests(given: Iterable[RequestLike], defaults: Mapping[str, Any]) -> list[Request]:
    """Return the requests of a pipeline; the defaults go with those that are given as tuples."""
    requests = []
    for one in given:
        if isinstance(one, Request):
            requests.append(one)
        else:
            kind, key, *value = one
            requests.append(make_request(kind, key, value[0] if value else "", defaults))
    return requests


def encode(requests: Iterable[Request]) -> bytes:
    """Return the bytes of some requests; raise UsageError for a text that has no encoding."""
    try:
        return b"".join([_encode_one(request) for request in requests])
    except UnicodeEncodeError as error:
        raise UsageError(f"a key or value is not text: {error}") from None


def _encode_one(request: Request) -> bytes:
    return encode_request(
        request.type,
        request.key or "",
        request.value,
        ns=request.ns,
        r=request.r,
        w=request.w,
        level=request.level,
        timeout_ms=request.timeout_ms,
        req_id=request.req_id,
        meta=request.meta,
        expected=request.expected,
        by=request.by,
        retry=request.retry,
        timestamp=request.timestamp or "",
        ttl_ms=request.ttl_ms,
    )


def succeeded(reply: Reply, kind: str, key: str = "") -> bool:
    """Say whether the status is SUCCESS, not ERROR; raise ClientError if it is neither.

    A JSON document of another protocol reads as a reply with empty fields: it proves nothing.
    """
    status = reply.status.upper()
    if status == "SUCCESS":
        return True
    if status == "ERROR":
        return False
    why = f"the reply has the status {reply.status!r}, neither SUCCESS nor ERROR"
    raise failure(kind, key, why, sent=True, code=BAD_REPLY)


def value_of(reply: Reply, key: str) -> str | None:
    """Return the value that a reply to GET carries, None for a missing key; raise ClientError."""
    if succeeded(reply, "GET", key):
        return reply.value
    if is_missing(reply.error, reply.code):
        return None
    raise refusal("GET", key, reply.error, reply.code)


def deleted_of(reply: Reply, key: str) -> bool:
    """Return whether a reply to DELETE says that there was something; raise ClientError."""
    if succeeded(reply, "DELETE", key):
        return True
    if is_missing(reply.error, reply.code):
        return False
    raise refusal("DELETE", key, reply.error, reply.code)


def raise_error(reply: Reply, kind: str, key: str = "") -> None:
    """Raise the ClientError that a reply with the status ERROR means."""
    if not succeeded(reply, kind, key):
        raise refusal(kind, key, reply.error, reply.code)


def info_of(reply: Reply, kind: str, key: str = "") -> dict[str, Any]:
    """Return the `info` of a reply; raise ClientError."""
    raise_error(reply, kind, key)
    return reply.info or {}
