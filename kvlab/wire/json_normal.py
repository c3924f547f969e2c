"""The slow path of one JSON document: field names in any case, and errors that name the field.

It looks for no document ends (json_scan) and decides nothing about verbs or missing keys.

Only known fields are decoded, each by a typed decoder, so an unknown field costs memory for its
name at most, and a document with too many fields is refused before that.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from kvlab.wire.json_messages import (
    CamelReply,
    CamelRequest,
    Copies,
    Milliseconds,
    Refusal,
    Reply,
    Request,
    RequestId,
    TimeToLive,
)
from kvlab.wire.limits import COPIES_LIMIT, FIELDS_LIMIT, TIMEOUT_LIMIT_MS, TTL_LIMIT_MS

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_REPLACEMENT = rb"\ufffd"
PREVIEW_BYTES = 24
"""How much of a wrong number an error shows."""

SHAPE = 'send one JSON object, such as {"type":"GET","key":"mykey"}'


def _field(kind: Any, expected: str) -> tuple[msgspec.json.Decoder[Any], str]:
    return msgspec.json.Decoder(kind | None), expected


_TEXT = _field(str, "a string")
_COPIES = _field(Copies, f"a whole number from 0 to {COPIES_LIMIT}")

# Field names without case and underscores -> (attribute, (decoder, what is expected)).
_REQUEST_FIELDS = {
    "type": ("type", _TEXT),
    "key": ("key", _TEXT),
    "value": ("value", _TEXT),
    "timestamp": ("timestamp", _TEXT),
    "status": ("status", _TEXT),
    "error": ("error", _TEXT),
    "ns": ("ns", _TEXT),
    "r": ("r", _COPIES),
    "w": ("w", _COPIES),
    "level": ("level", _TEXT),
    "timeoutms": ("timeout_ms", _field(Milliseconds, f"milliseconds from 0 to {TIMEOUT_LIMIT_MS}")),
    "reqid": ("req_id", _field(RequestId, "a string or a whole number of 64 bits")),
    "meta": ("meta", _field(bool, "true or false")),
    "expected": ("expected", _TEXT),
    "by": ("by", _field(int, "a whole number")),
    "retry": ("retry", _field(bool, "true or false")),
    "ttlms": ("ttl_ms", _field(TimeToLive, f"milliseconds from 0 to {TTL_LIMIT_MS}")),
}
_SIX = ("type", "key", "value", "timestamp", "status", "error")
_REPLY_FIELDS = {
    **{name: (name, _TEXT) for name in (*_SIX, "code", "node", "version")},
    "acks": ("acks", _field(int, "a whole number")),
    "degraded": ("degraded", _field(bool, "true or false")),
    "reqid": ("req_id", _field(str | int, "a string or a whole number")),
    "info": ("info", _field(dict[str, Any], "an object")),
}


class _UnreadableError(Exception):
    """The document cannot be decoded, or is no object (`sentence` says so)."""

    def __init__(self, sentence: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence


def normalise_request(document: bytes, fields: int, camel: bool) -> Request | Refusal | None:
    """Make a Request of a complete document, or a Refusal, or None if it cannot be decoded.

    `fields` is how many fields the scanner saw; `camel` is the casing to assume if it shows none.
    """
    if fields > FIELDS_LIMIT:
        sentence = f"a request has at most {FIELDS_LIMIT} fields, this one has {fields}"
        return Refusal("BAD_REQUEST", sentence, camel)
    try:
        raw, sentence = _raw_fields(document)
    except _UnreadableError as unreadable:
        if not unreadable.sentence:
            return None
        return Refusal("BAD_REQUEST", unreadable.sentence, camel)
    camel = _casing(raw, camel)
    values: dict[str, Any] = {}
    for name, text in raw.items():
        attribute, (decoder, expected) = _REQUEST_FIELDS.get(_folded(name), ("", _TEXT))
        if not attribute:
            continue
        try:
            values[attribute] = decoder.decode(text)
        except (ValueError, RecursionError):
            sentence = sentence or f'field "{name}" must be {expected}, not {_kind(text)}'
    if not sentence and values.get("type") is None:
        sentence = f'field "{"Type" if camel else "type"}" is missing: {SHAPE}'
    if sentence:
        return Refusal("BAD_REQUEST", sentence, camel, values.get("req_id"))
    values["type"] = values["type"].upper()
    present = {name: value for name, value in values.items() if value is not None}
    return (CamelRequest if camel else Request)(**present)


def normalise_reply(document: bytes, fields: int) -> Reply | str:
    """Make a Reply of a complete document, or a sentence that says why it is none.

    Missing fields are empty; extras of another type than ours belong to another protocol and are
    left out; only the six fields must be strings.
    """
    if fields > FIELDS_LIMIT:
        return f"it has {fields} fields, more than {FIELDS_LIMIT}"
    try:
        raw, sentence = _raw_fields(document)
    except _UnreadableError as unreadable:
        return unreadable.sentence or "not JSON text in UTF-8"
    if sentence:
        return sentence
    values: dict[str, Any] = dict.fromkeys(_SIX, "")
    for name, text in raw.items():
        attribute, (decoder, expected) = _REPLY_FIELDS.get(_folded(name), ("", _TEXT))
        if not attribute:
            continue
        try:
            value = decoder.decode(text)
        except (ValueError, RecursionError):
            if attribute in _SIX:
                return f'field "{name}" must be {expected}, not {_kind(text)}'
            continue
        if value is not None:
            values[attribute] = value
    return (CamelReply if _casing(raw, camel=False) else Reply)(**values)


def _raw_fields(document: bytes) -> tuple[dict[str, msgspec.Raw], str]:
    """Split a document into its fields, and say what is wrong with its text (or "").

    A surrogate escape without its other half is no text, but its place is known: it is replaced, so
    that the rest (casing, req_id) can still be read.
    """
    try:
        if not document.isascii():
            document.decode()
        return _FIELDS.decode(document), ""
    except msgspec.ValidationError as error:
        raise _UnreadableError(SHAPE) from error
    except UnicodeDecodeError as error:
        raise _UnreadableError from error
    except (ValueError, RecursionError) as error:
        patched = _without_lone_surrogates(document)
        if patched is None:
            raise _UnreadableError from error
    try:
        fields = _FIELDS.decode(patched)
    except (ValueError, RecursionError) as error:
        raise _UnreadableError from error
    return fields, r"a \ud800-\udfff escape without its other half is not text: send pairs or UTF-8"


def _without_lone_surrogates(document: bytes) -> bytes | None:
    r"""Put \ufffd for every surrogate escape without its other half; None if there is none."""
    lone: list[int] = []
    high = -1  # where a high surrogate waits for its other half
    for escape in _ESCAPE.finditer(document):
        unit = int(escape[1], 16) if escape[1] else 0
        at = escape.start()
        if high >= 0 and at == high + len(_REPLACEMENT) and 0xDC00 <= unit <= 0xDFFF:
            high = -1
            continue
        if high >= 0:
            lone.append(high)
            high = -1
        if 0xD800 <= unit <= 0xDBFF:
            high = at
        elif 0xDC00 <= unit <= 0xDFFF:
            lone.append(at)
    if high >= 0:
        lone.append(high)
    if not lone:
        return None
    patched = bytearray(document)
    for at in lone:
        patched[at : at + len(_REPLACEMENT)] = _REPLACEMENT
    return bytes(patched)


def _folded(name: str) -> str:
    return name.lower().replace("_", "")


def _casing(raw: dict[str, msgspec.Raw], camel: bool) -> bool:
    """Whether a document writes `Type`; without a `type`, whether it writes any known `Name`."""
    if "Type" in raw or "type" in raw:
        return "Type" in raw
    known = [name for name in raw if _folded(name) in _REQUEST_FIELDS]
    if not known:
        return camel
    if any(_folded(name) == "type" for name in known):
        return False
    return all(name[0].isupper() and not name.isupper() for name in known)


def _kind(text: msgspec.Raw) -> str:
    """Name what a JSON value is, from its first byte."""
    kinds = {b'"': "this string", b"{": "an object", b"[": "an array", b"n": "null"}
    kinds |= {b"t": "true", b"f": "false"}
    start = bytes(text)[:PREVIEW_BYTES]
    return kinds.get(start[:1]) or start.decode()
