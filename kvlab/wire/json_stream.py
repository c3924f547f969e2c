"""A stream of JSON documents in pieces: the fast path, the buffer and the search for ends.

It does not know what a document means: subclasses name the structs, normalise unusual documents
and say what a failure becomes.

1. A piece that holds whole plain documents, while nothing waits, is decoded in one call.
   Everything else goes document by document and gives the same messages, only slower.
2. Every byte is scanned once (twice where a flat object was expected and is not there) and decoded
   a bounded number of times; `examined` counts this work outside the fast path, a test bounds it.
3. Never more than one unfinished document and one slice wait in memory.
"""

from __future__ import annotations

import re
from typing import Generic, Protocol, TypeVar

import msgspec

from kvlab.wire.json_scan import PARTIAL, TOO_DEEP, DocumentScanner
from kvlab.wire.limits import KIB, Limits

SLICE_BYTES = 64 * KIB
"""A large piece is taken in slices of this size, so that working memory stays bounded."""

SHORT_BYTES = 1 * KIB
"""A piece below this is decoded at once: trying costs less than looking at its end."""

ENDS = (b"\n", b"}")
_BLANK = re.compile(rb"(?:[ \t\r\n]|\xef\xbb\xbf)*")
_MARK_BEGUN = (b"\xef", b"\xef\xbb")
UNDECODABLE = (ValueError, RecursionError)  # DecodeError and UnicodeDecodeError are ValueErrors


class Message(Protocol):
    """What every message tells: the casing of its field names."""

    @property
    def camel(self) -> bool:
        """Whether it writes `Type` rather than `type`."""


M = TypeVar("M", bound=Message)


class DocumentStream(Generic[M]):
    """Bytes in, messages out, in order. Subclasses provide `_normalise`, `_checked` and `_failed`.

    `camel` is the casing of the newest message. `uniform` says that all messages of the last feed
    have that casing and none is special. `closed` says that nothing more is read.
    """

    def __init__(
        self, lower: msgspec.json.Decoder[M], camel: msgspec.json.Decoder[M], limits: Limits
    ) -> None:
        self.camel = False
        self.uniform = True
        self.closed = False
        self.examined = 0
        self._limits = limits
        self._decoders = (lower, camel)
        self._decode_lines = lower.decode_lines
        self._fast_bytes = min(limits.unchecked_bytes, SLICE_BYTES)
        self._whole_bytes = self._fast_bytes  # -1 while something waits: one test in `feed`
        self._buffer = bytearray()
        self._scanner = DocumentScanner(limits.depth)
        self._spread = False  # the waiting document has a newline inside

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of an unfinished document are kept."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[M]:
        """Take what arrived, give the messages that it completes, in order."""
        size = len(data)
        if size <= self._whole_bytes and (size < SHORT_BYTES or data.endswith(ENDS)):
            try:
                messages = self._decode_lines(data)
            except UNDECODABLE:
                pass
            else:
                self.uniform = True
                return messages
        messages = []
        self._feed_slices(data, messages)
        self._whole_bytes = -1 if self._buffer or self.closed else self._fast_bytes
        return messages

    def _feed_slices(self, data: bytes, messages: list[M]) -> None:
        for at in range(0, len(data), SLICE_BYTES):
            if self.closed:
                break
            self._feed_slice(data[at : at + SLICE_BYTES], messages)
        self.uniform = self._same(messages)

    def _feed_slice(self, piece: bytes, messages: list[M]) -> None:
        buffer = self._buffer
        before = len(buffer)
        buffer += piece
        newline = buffer.rfind(b"\n", before)
        if 0 <= newline < self._limits.document_bytes and not self._spread:
            lines = self._lines(buffer[: newline + 1])
            if lines is not None:
                unchecked = newline < self._limits.unchecked_bytes
                messages.extend(lines if unchecked else map(self._checked, lines))
                del buffer[: newline + 1]
                self._scanner.reset()
                newline = -1
        self._feed_documents(messages, newline)

    def _lines(self, lines: bytearray) -> list[M] | None:
        """Decode whole lines of plain documents in one call, or None if anything is unusual."""
        for camel in (self.camel, not self.camel):
            self.examined += len(lines)
            try:
                messages = self._decoders[camel].decode_lines(lines)
            except UNDECODABLE:
                continue
            if messages:
                self._turn(camel)
            return messages
        return None

    def _feed_documents(self, messages: list[M], newline: int) -> None:
        """Take the documents at the front of the buffer that are complete, one by one.

        `newline` is the last newline of the buffer, or -1: if it lies in the document that stays,
        trying whole lines again would be wasted (and quadratic) work.
        """
        buffer, scanner, limit = self._buffer, self._scanner, self._limits.document_bytes
        start = 0
        while not self.closed:
            if not scanner.offset:
                start = self._skip_blank(start)
            if start == len(buffer) or buffer[start : start + 3] in _MARK_BEGUN:
                break
            offset = scanner.offset
            end = scanner.scan(buffer, start, min(len(buffer), start + limit))
            self.examined += (end if end >= 0 else start + scanner.offset) - start - offset
            if end == PARTIAL:
                if len(buffer) - start > limit:
                    sentence = f"the document is larger than {limit} bytes"
                    self._close(messages, "TOO_LARGE", sentence)
                break
            if end < 0:
                depth = f"objects and arrays are nested deeper than {self._limits.depth}"
                sentence = depth if end == TOO_DEEP else "this is not JSON"
                self._close(messages, "BAD_REQUEST", sentence)
                break
            fields = scanner.fields
            scanner.reset()
            document, start = bytes(buffer[start:end]), end
            message = self._document(document, fields)
            if message is None:
                self._close(messages, "BAD_REQUEST", "this is not JSON text in UTF-8")
            else:
                messages.append(message)
        del buffer[: len(buffer) if self.closed else start]
        self._spread = bool(buffer) and (newline >= start or (self._spread and start == 0))

    def _skip_blank(self, start: int) -> int:
        match = _BLANK.match(self._buffer, start)
        return match.end() if match else start

    def _document(self, document: bytes, fields: int) -> M | None:
        self.examined += 2 * len(document)
        camel = b'"Type"' in document
        try:
            message = self._decoders[camel].decode(document)
        except UNDECODABLE:
            pass
        else:
            if camel is not self.camel:
                self._turn(camel)
            return self._checked(message)
        message_or_none = self._normalise(document, fields)
        if message_or_none is not None:
            self._turn(message_or_none.camel)
        return message_or_none

    def _turn(self, camel: bool) -> None:
        """Expect the casing of the newest message first."""
        self.camel = camel
        self._decode_lines = self._decoders[camel].decode_lines

    def _close(self, messages: list[M], code: str, sentence: str) -> None:
        self.closed = True
        self._whole_bytes = -1
        self._failed(messages, code, sentence)

    def _same(self, messages: list[M]) -> bool:
        """Whether every message has the casing `self.camel`."""
        return all(message.camel is self.camel for message in messages)

    def _checked(self, message: M) -> M:
        """Replace a message that weighs too much."""
        raise NotImplementedError

    def _normalise(self, document: bytes, fields: int) -> M | None:
        """Read a complete document whose fields are unusual; None if it cannot be decoded."""
        raise NotImplementedError

    def _failed(self, messages: list[M], code: str, sentence: str) -> None:
        """Tell that nothing more can be read."""
        raise NotImplementedError
