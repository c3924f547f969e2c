"""The JSON protocol of clients: readers of requests and of replies, and the encoders beside them.

It holds no socket and no clock; DESIGN 8 is the contract and every limit is in limits.py.

    reader = JsonReader()
    for item in reader.feed(data):          # Request or Refusal, in the order of arrival
        ...
    transport.write(encode_replies(replies))

1. The same bytes give the same messages wherever they are cut.
2. `feed` never raises for what a peer sent; a refusal with `close` is the last item ever given.
3. A plain batch (one casing, known fields, verbs in upper case) costs one call of the decoder.
"""

from __future__ import annotations

from typing import cast

import msgspec

from kvlab.errors import UncertainError
from kvlab.wire.json_encode import (
    as_camel,
    encode_fragments,
    encode_replies,
    encode_request,
    encode_success,
    fragment,
    reply_class,
    rfc3339,
    success_tail,
)
from kvlab.wire.json_messages import (
    CamelPlainRequest,
    CamelReply,
    CamelRequest,
    PlainRequest,
    Refusal,
    Reply,
    Request,
)
from kvlab.wire.json_normal import normalise_reply, normalise_request
from kvlab.wire.json_stream import ENDS, SHORT_BYTES, UNDECODABLE, DocumentStream
from kvlab.wire.limits import DEFAULT_LIMITS, Limits

__all__ = [
    "CamelReply",
    "CamelRequest",
    "JsonReader",
    "PlainRequest",
    "ProtocolError",
    "Refusal",
    "Reply",
    "ReplyReader",
    "Request",
    "as_camel",
    "encode_fragments",
    "encode_replies",
    "encode_request",
    "encode_success",
    "fragment",
    "reply_class",
    "rfc3339",
    "success_tail",
]

_REQUESTS = cast("msgspec.json.Decoder[Request | Refusal]", msgspec.json.Decoder(Request))
_CAMEL_REQUESTS = cast(
    "msgspec.json.Decoder[Request | Refusal]", msgspec.json.Decoder(CamelRequest)
)
_PLAIN = (msgspec.json.Decoder(PlainRequest), msgspec.json.Decoder(CamelPlainRequest))
_REPLIES = msgspec.json.Decoder(Reply)
_CAMEL_REPLIES = cast("msgspec.json.Decoder[Reply]", msgspec.json.Decoder(CamelReply))


class ProtocolError(UncertainError):
    """A server sent what is no reply, so what it did is unknown. `replies` came before it."""

    def __init__(self, message: str, replies: list[Reply] | None = None) -> None:
        hint = "is this the address of a server that speaks the JSON protocol?"
        super().__init__(message, code="UNKNOWN", hint=hint)
        self.replies = replies or []


class JsonReader(DocumentStream[Request | Refusal]):
    """The server's side: bytes from a client -> requests and refusals.

    After each `feed`: if `uniform`, every item is a Request of the casing `camel`; otherwise look
    at each item (`type(item) is Refusal`, `item.camel`).
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(_REQUESTS, _CAMEL_REQUESTS, limits)

    def plain(self, data: bytes) -> list[PlainRequest] | None:
        """Give the requests of a piece that holds whole lines and nothing unusual, else None."""
        size = len(data)
        if size <= self._whole_bytes and (size < SHORT_BYTES or data.endswith(ENDS)):
            try:
                return _PLAIN[self.camel].decode_lines(data)
            except UNDECODABLE:
                return None
        return None

    def _checked(self, message: Request | Refusal) -> Request | Refusal:
        if isinstance(message, Refusal):
            return message
        limits = self._limits
        for name, text, limit in (
            ("key", message.key, limits.key_bytes),
            ("value", message.value, limits.value_bytes),
        ):
            if text is not None and utf8_bytes(text) > limit:
                sentence = f"the {name} has {utf8_bytes(text)} bytes; the limit is {limit}"
                return Refusal("TOO_LARGE", sentence, message.camel, message.req_id)
        return message

    def _normalise(self, document: bytes, fields: int) -> Request | Refusal | None:
        message = normalise_request(document, fields, self.camel)
        return None if message is None else self._checked(message)

    def _failed(self, messages: list[Request | Refusal], code: str, sentence: str) -> None:
        messages.append(Refusal(code, sentence, self.camel, close=True))

    def _same(self, messages: list[Request | Refusal]) -> bool:
        camel = self.camel
        return all(type(item) is not Refusal and item.camel is camel for item in messages)


class ReplyReader(DocumentStream[Reply]):
    """The client's side: bytes from any server that speaks the protocol -> replies.

    `feed` raises ProtocolError on anything that is no reply; nothing is read after that.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(_REPLIES, _CAMEL_REPLIES, limits)

    def _feed_slices(self, data: bytes, messages: list[Reply]) -> None:
        try:
            super()._feed_slices(data, messages)
        except ProtocolError as error:
            error.replies = messages
            raise

    def _checked(self, message: Reply) -> Reply:
        return message  # the document limit is enough: a reply may carry a whole cluster map

    def _normalise(self, document: bytes, fields: int) -> Reply | None:
        reply = normalise_reply(document, fields)
        if isinstance(reply, str):
            self._close([], "BAD_REPLY", reply)
            return None
        return reply

    def _failed(self, messages: list[Reply], code: str, sentence: str) -> None:
        raise ProtocolError(f"the server's answer is no reply ({code}): {sentence}", messages)


def utf8_bytes(text: str) -> int:
    """Return how many bytes a text has in UTF-8 (text from a decoder never fails to encode)."""
    return len(text) if text.isascii() else len(text.encode())
