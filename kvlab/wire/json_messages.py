"""The values of the JSON protocol: Request, Reply and Refusal, each in both casings.

It reads and writes no bytes (json_lines does) and it judges no verb: that is the node's business.

How they are made for speed:

1. Structs without garbage collection and with few optional types: making one costs about 0.1 us.
2. Decoding is strict on purpose (unknown fields forbidden, verbs a closed list in upper case), so a
   plain request needs no check in Python: whatever is unusual fails there and takes the slow path,
   which makes the same structs (json_normal).
3. A missing or null `key` or `value` is None. The node tests `request.key is None`.
4. The casing of a request is its class: `request.camel` is a class attribute and costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, cast

import msgspec

from kvlab.wire.limits import COPIES_LIMIT, TIMEOUT_LIMIT_MS, TTL_LIMIT_MS

if TYPE_CHECKING:
    Verb = str  # the slow path lets any verb through; the node answers "Invalid request type"
else:
    Verb = Literal[
        "GET",
        "SET",
        "DELETE",
        "CAS",
        "INCR",
        "SETNX",
        "APPEND",
        "AUTH",
        "PING",
        "STATUS",
        "MAP",
        "RANGES",
        "MOVES",
        "INSPECT",
        "JOIN",
        "LEAVE",
    ]

Copies = Annotated[int, msgspec.Meta(ge=0, le=COPIES_LIMIT)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=TIMEOUT_LIMIT_MS)]
TimeToLive = Annotated[int, msgspec.Meta(ge=0, le=TTL_LIMIT_MS)]
RequestId = str | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None

S = TypeVar("S", bound=msgspec.Struct)

CAMEL_NAMES = {
    "type": "Type",
    "key": "Key",
    "value": "Value",
    "timestamp": "Timestamp",
    "status": "Status",
    "error": "Error",
    "ns": "Ns",
    "r": "R",
    "w": "W",
    "level": "Level",
    "timeout_ms": "TimeoutMs",
    "req_id": "ReqId",
    "meta": "Meta",
    "expected": "Expected",
    "by": "By",
    "retry": "Retry",
    "ttl_ms": "TtlMs",
    "code": "Code",
    "node": "Node",
    "version": "Version",
    "acks": "Acks",
    "degraded": "Degraded",
    "info": "Info",
}


class Request(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """What a client asks. `type` is upper case, whatever was sent; 0, "" and None mean default.

    `timestamp`, `status` and `error` are tolerated and never interpreted.
    """

    camel: ClassVar[bool] = False

    type: Verb
    key: str | None = None
    value: str | None = None
    timestamp: str | None = None
    status: str | None = None
    error: str | None = None
    ns: str = ""
    r: Copies = 0
    w: Copies = 0
    level: str = ""
    timeout_ms: Milliseconds = 0
    req_id: RequestId = None
    meta: bool = False
    expected: str | None = None
    by: int = 1
    retry: bool = False
    ttl_ms: TimeToLive = 0


class PlainRequest(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A GET, SET or DELETE without options: what nearly all requests are, with nothing to check."""

    camel: ClassVar[bool] = False

    type: Literal["GET", "SET", "DELETE"]
    key: str
    value: str | None = None
    timestamp: str | None = None
    status: str | None = None
    error: str | None = None


class Refusal(msgspec.Struct, gc=False):
    """A document that is no request: answer it in its turn with `code` and `error`.

    After a refusal with `close` the reader reads nothing more: there is no place to resume at.
    """

    type: ClassVar[str] = ""
    """Empty, so that a dispatch on `item.type` never takes a refusal for a request."""

    code: str
    error: str
    camel: bool = False
    req_id: str | int | None = None
    close: bool = False


class Reply(msgspec.Struct, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """What a node answers: six fields that are always written, then extras where not default.

    `timestamp` must be a valid RFC 3339 time (see json_encode.rfc3339): peers in Go insist.
    """

    camel: ClassVar[bool] = False

    type: str
    key: str
    value: str
    timestamp: str
    status: str
    error: str
    code: str = ""
    node: str = ""
    version: str = ""
    acks: int = 0
    degraded: bool = False
    req_id: str | int | None = None
    info: dict[str, Any] | None = None


def camel_twin(base: type[S], name: str, doc: str) -> type[S]:
    """Make a subclass of a struct whose fields are written as `Type`, `Key`, ...

    Every field is declared again, because msgspec renames only what a class declares itself.
    """
    fields: list[Any] = [
        (field.name, field.type)
        if field.default is msgspec.NODEFAULT
        else (field.name, field.type, field.default)
        for field in msgspec.structs.fields(base)
    ]
    config = base.__struct_config__
    twin = msgspec.defstruct(
        name,
        fields,
        bases=(base,),
        module=base.__module__,
        namespace={"camel": True, "__doc__": doc},
        gc=config.gc,
        omit_defaults=config.omit_defaults,
        forbid_unknown_fields=config.forbid_unknown_fields,
        tag_field=config.tag_field and CAMEL_NAMES[config.tag_field],
        tag=config.tag,
        rename=CAMEL_NAMES,
    )
    return cast("type[S]", twin)


CamelPlainRequest = camel_twin(
    PlainRequest, "CamelPlainRequest", "The same, from a program that writes `Type`."
)
CamelRequest = camel_twin(
    Request,
    "CamelRequest",
    "A request that wrote `Type`, as programs in Go do; its reply is written the same way.",
)
CamelReply = camel_twin(Reply, "CamelReply", "The same reply, written as `Type`, `Key`, ...")
