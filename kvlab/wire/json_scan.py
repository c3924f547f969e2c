"""Finds where a JSON document ends, in pieces of any size, and stops at the first wrong token.

It does not decode: text, numbers and escapes are judged by the decoder once the end is known.

1. Every byte is looked at once (at most one byte, a trailing backslash, is looked at again), so
   time is linear in what arrives, whatever it is and however it is cut.
2. The answer depends on the bytes only, never on where they were cut.
3. The structure is checked token by token, so rubbish is noticed at its place instead of being
   waited for until the limit: a raw newline in a string, `{` where a comma must be, ...
"""

from __future__ import annotations

import re

PARTIAL = -1
"""The document has not ended yet."""
MALFORMED = -2
"""What follows cannot be JSON."""
TOO_DEEP = -3
"""More objects and arrays are open than the limit allows."""

_SPACE = re.compile(rb"[ \t\r\n]*")
_IN_STRING = re.compile(rb'[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+')
_IN_SCALAR = re.compile(rb'[^\x00-\x20{}\[\]:,"]*')
_SCALAR_FIRST = frozenset(b"-0123456789tfn")
# The usual document in one step: an object of at most 16 strings and scalars. It accepts nothing
# that the walk over tokens does not; possessive repeats keep it linear.
_STRING = rb'"[^"\\\x00-\x1f]*+(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*+)*+"'
_BLANKS = rb"[ \t\r\n]*+"
_FIELD = rb"%b%b:%b(?:%b|[-0-9tfn][^\x00-\x20{}\[\]:,\"]*+)%b" % (
    _STRING, _BLANKS, _BLANKS, _STRING, _BLANKS,
)  # fmt: skip
_FLAT_OBJECT = re.compile(rb"\{%b(?:%b(?:,%b%b){0,15})?\}" % (_BLANKS, _FIELD, _BLANKS, _FIELD))
_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_OPEN_OBJECT, _OPEN_ARRAY = ord("{"), ord("[")
_COLON_BYTE, _COMMA_BYTE = ord(":"), ord(",")
_SCALAR = ord("0")  # stands for any number, true, false or null

# What may come next: the tokens that each state accepts.
_VALUE = frozenset((_OPEN_OBJECT, _OPEN_ARRAY, _QUOTE, _SCALAR))
_NAME_OR_END = frozenset(b'"}')
_NAME = frozenset(b'"')
_COLON = frozenset(b":")
_NEXT_FIELD = frozenset(b",}")
_VALUE_OR_END = _VALUE | frozenset(b"]")
_NEXT_ITEM = frozenset(b",]")


class DocumentScanner:
    """Walks one document at a time; `reset` before the next.

    `offset` is how many bytes of the document have been looked at, `fields` how many fields of the
    outermost object have been seen.
    """

    __slots__ = ("_depth_limit", "_expect", "_inside", "_open", "fields", "offset")

    def __init__(self, depth_limit: int) -> None:
        self._depth_limit = depth_limit
        self._open: list[int] = []
        self.reset()

    def reset(self) -> None:
        """Forget the document: the next call of `scan` is at the start of another one."""
        self.offset = 0
        self.fields = 0
        self._open.clear()
        self._expect = _VALUE
        self._inside: re.Pattern[bytes] | None = None  # of a string or scalar cut by a piece's end

    def scan(self, buffer: bytearray, start: int, stop: int) -> int:
        """Look on from `start + offset` to `stop`. `start` is where the document starts.

        Returns the index after the document, or PARTIAL, MALFORMED or TOO_DEEP.
        """
        if not self.offset:
            flat = _FLAT_OBJECT.match(buffer, start, stop)
            if flat:
                return flat.end()
        at = start + self.offset
        while at < stop:
            if self._inside is not None:
                at, ended = self._walk_inside(buffer, at, stop)
                if at < 0:
                    return at
                if not ended:
                    break
                self._inside = None
                self._after_value()
            else:
                at = _SPACE.match(buffer, at, stop).end()  # type: ignore[union-attr]
                if at == stop:
                    break
                token = buffer[at]
                problem = self._token(token)
                if problem:
                    return problem
                if self._inside is not _IN_SCALAR:
                    at += 1
            if not self._open and self._inside is None:
                return at
        self.offset = at - start
        return PARTIAL

    def _walk_inside(self, buffer: bytearray, at: int, stop: int) -> tuple[int, bool]:
        """Walk on in a string or scalar: (where to go on, whether it ended), or (MALFORMED, _)."""
        if self._inside is not _IN_STRING:
            end = _IN_SCALAR.match(buffer, at, stop).end()  # type: ignore[union-attr]
            return end, end < stop
        end = _string_end(buffer, at, stop)
        if end == stop or (buffer[end] == _BACKSLASH and end + 1 == stop):
            return end, False
        if buffer[end] != _QUOTE:
            return MALFORMED, False
        return end + 1, True

    def _token(self, token: int) -> int:
        """Take the first byte of a token; 0 or the problem."""
        if token in _SCALAR_FIRST:
            token = _SCALAR
        if token not in self._expect:
            return MALFORMED
        if token == _QUOTE:
            self._inside = _IN_STRING
        elif token == _SCALAR:
            self._inside = _IN_SCALAR
        elif token in (_OPEN_OBJECT, _OPEN_ARRAY):
            if len(self._open) >= self._depth_limit:
                return TOO_DEEP
            self._open.append(token)
            self._expect = _NAME_OR_END if token == _OPEN_OBJECT else _VALUE_OR_END
        elif token == _COLON_BYTE:
            self._expect = _VALUE
        elif token == _COMMA_BYTE:
            self._expect = _NAME if self._open[-1] == _OPEN_OBJECT else _VALUE
        else:
            self._open.pop()
            self._expect = _VALUE
            self._after_value()
        return 0

    def _after_value(self) -> None:
        """Choose what may follow a string, scalar, object or array that is complete now."""
        if not self._open:
            return
        if self._open[-1] == _OPEN_ARRAY:
            self._expect = _NEXT_ITEM
        elif self._expect is _VALUE:
            self._expect = _NEXT_FIELD
        else:  # it was the name of a field
            self._expect = _COLON
            self.fields += len(self._open) == 1


def _string_end(buffer: bytearray, at: int, stop: int) -> int:
    """Return where the text of a string stops: at its quote, at a byte it cannot have, or `stop`."""
    quote = buffer.find(b'"', at, stop)
    end = quote if quote >= 0 else stop
    if buffer.find(b"\\", at, end) < 0:  # plain text: `find` is 80 times as fast as a pattern
        newline = buffer.find(b"\n", at, end)
        return end if newline < 0 else newline
    return _IN_STRING.match(buffer, at, stop).end()  # type: ignore[union-attr]
