"""The requests of RESP clients: bytes in pieces -> lists of arguments. Both versions, inline ones too.

It holds no socket and knows no command; the writers of replies are in resp_encode.py.

    reader = RespReader()
    for args in reader.feed(data):          # list[bytes], at least one each, in order of arrival
        ...

A request is an array of bulk strings (`*2`, `$3`, `GET`, ...), or one line of words as people type
it. Both versions of the protocol write requests alike.

Invariants:

1. The same bytes give the same requests wherever they are cut.
2. `feed` raises RespError and nothing else; `requests` of it are those that came whole before. There
   is no place to resume at, so nothing is read after it.
3. A byte is looked at a bounded number of times, however the stream is cut.
4. Besides one read, never more waits in memory than one request within the limits.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvlab.errors import KvlabError
from kvlab.wire.limits import DEFAULT_LIMITS, KIB, Limits

ARGUMENTS_MAX = 128 * KIB  # of one request
ARGUMENT_BYTES = 40  # that each costs beyond its own
INLINE_BYTES_MAX = 64 * KIB  # of one line that is no array
NUMBER_BYTES_MAX = 24  # of a line that tells a size, its end included

QUICK_BYTES_MAX = 256 * KIB  # a read is split at once up to this; twice its size in memory
_QUICK_COUNT_MAX = 64
_QUICK_SIZE_MAX = 1025  # more than 1 KiB
# What a line before a short array or a short string looks like.
_COUNTS = {b"*%d" % count: count for count in range(1, _QUICK_COUNT_MAX + 1)}
_SIZES = [b"$%d" % size for size in range(_QUICK_SIZE_MAX)]

_ARRAY, _STRING, _NEWLINE = b"*$\n"
_END = b"\r\n"
# The first words of what a browser can be made to send, as Redis too hangs up on.
_HTTP_WORDS = (b"post", b"host:")
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


class RespError(KvlabError):
    """Bytes that are no request. The message is what Redis clients expect to be told."""

    def __init__(self, sentence: str) -> None:
        super().__init__(f"Protocol error: {sentence}")
        self.requests: list[list[bytes]] = []


class RespReader:
    """One client's requests. `closed` says that nothing more is read."""

    __slots__ = (
        "_args",
        "_buffer",
        "_kept",
        "_limit",
        "_looked",
        "_missing",
        "_quick",
        "_size",
        "_weight",
    )

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limit = limits.document_bytes
        self._quick = limits.document_bytes >= _QUICK_COUNT_MAX * _QUICK_SIZE_MAX
        self._buffer = bytearray()  # not consumed yet
        self._looked = 0  # bytes of it, from the start of a line, in which the line does not end
        self._args: list[bytes] = []  # of a request of which `_missing` more are to come
        self._missing = 0
        self._size = -1  # of the argument that is arriving; -1: its size is not known yet
        self._weight = 0  # bytes of the arguments that the request has told
        self._kept = 0  # bytes that `_args` take

    @property
    def is_waiting(self) -> bool:
        """Whether the rest of a request is missing."""
        return self._missing > 0 or len(self._buffer) > 0

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of an unfinished request are kept, the cost of each argument included."""
        return len(self._buffer) + self._kept

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Take what arrived, give the requests that it completes, in order. May raise RespError."""
        requests: list[list[bytes]] = []
        try:
            if self._missing or self._buffer:
                self._buffer += data
                self._read(requests, once=True)
                if not requests or not self._buffer:
                    return requests
                data = bytes(self._buffer)
                self._buffer.clear()
            at = 0
            if self._quick and len(data) <= QUICK_BYTES_MAX:
                at = _take_short(data, requests)
            if at < len(data):
                self._buffer += data[at:] if at else data
                self._read(requests)
        except RespError as error:
            self._buffer.clear()
            self._args, self._missing, self._kept = [], 0, 0
            error.requests = requests
            raise
        return requests

    # -- one piece at a time --------------------------------------------------------------------

    def _read(self, requests: list[list[bytes]], *, once: bool = False) -> None:
        """Consume the buffer as far as it is whole; with `once`, up to the end of one request."""
        buffer = self._buffer
        at: int | None = 0
        done = 0
        while at is not None and not (once and requests):
            done = at
            if self._size >= 0:
                at = self._argument(at, requests)
            elif self._missing:
                at = self._size_line(at)
            elif at >= len(buffer):
                at = None
            elif buffer[at] == _ARRAY:
                at = self._count_line(at)
            else:
                at = self._inline(at, requests)
        if at is not None:
            done = at
        del buffer[:done]

    def _argument(self, at: int, requests: list[list[bytes]]) -> int | None:
        """Take one argument whose size is known; return what follows it, None if it is not whole."""
        buffer, end = self._buffer, at + self._size
        if len(buffer) < end + 2:
            return None
        if buffer[end : end + 2] != _END:
            raise RespError("an argument is longer than its size said")
        self._args.append(bytes(buffer[at:end]))
        self._kept += self._size + ARGUMENT_BYTES
        self._size = -1
        self._missing -= 1
        if not self._missing:
            requests.append(self._args)
            self._args, self._weight, self._kept = [], 0, 0
        return end + 2

    def _size_line(self, at: int) -> int | None:
        """Take the line before an argument."""
        buffer = self._buffer
        if at >= len(buffer):
            return None
        if buffer[at] != _STRING:
            raise RespError(f"expected '$', got {_shown(buffer[at])}")
        end = self._number_end(at, "too big bulk count string")
        if end is None:
            return None
        size = _number(bytes(buffer[at + 1 : end]))
        if size < 0 or size > self._limit:
            raise RespError("invalid bulk length")
        self._weight += size
        if self._weight > self._limit:
            raise RespError(f"a request of more than {self._limit} bytes")
        self._size = size
        return end + 2

    def _count_line(self, at: int) -> int | None:
        """Take the line before the arguments. An empty array is no request, as in Redis."""
        end = self._number_end(at, "too big mbulk count string")
        if end is None:
            return None
        text = bytes(self._buffer[at + 1 : end])
        count = _number(text.removeprefix(b"-"))
        if not 0 <= count <= ARGUMENTS_MAX:
            raise RespError("invalid multibulk length")
        self._missing = 0 if text[:1] == b"-" else count
        return end + 2

    def _number_end(self, at: int, too_long: str) -> int | None:
        """Return where a line that tells a number ends."""
        end = self._buffer.find(_END, at, at + NUMBER_BYTES_MAX)
        if end >= 0:
            return end
        if len(self._buffer) - at >= NUMBER_BYTES_MAX:
            raise RespError(too_long)
        return None

    def _inline(self, at: int, requests: list[list[bytes]]) -> int | None:
        """Take a line of words."""
        buffer = self._buffer
        end = buffer.find(_NEWLINE, at + self._looked, at + INLINE_BYTES_MAX + 1)
        if end < 0:
            self._looked = len(buffer) - at
            if self._looked > INLINE_BYTES_MAX:
                raise RespError("too big inline request")
            return None
        self._looked = 0
        words = split_words(bytes(buffer[at:end]))
        if words:
            if words[0].lower() in _HTTP_WORDS:
                raise RespError("this is a kvlab node, and the request looks like HTTP")
            requests.append(words)
        return end + 1


def _take_short(data: bytes, requests: list[list[bytes]]) -> int:
    """Take the requests at the start of a read that are whole, short arrays; return their bytes.

    A split at all ends of lines, and a look whether each argument has the size that the line before
    it says. The rest, whatever it is, is left to the reader that goes piece by piece.
    """
    tokens = data.split(_END)
    last = len(tokens) - 1  # the token after the last end of a line
    counts, sizes, add = _COUNTS, _SIZES, requests.append
    start = 0
    try:
        while start < last:
            count = counts[tokens[start]]
            end = start + 1 + 2 * count
            if end > last:
                break
            args = tokens[start + 2 : end : 2]
            # Written out for GET and SET, which takes half the time.
            if count in (2, 3):
                if tokens[start + 1] != sizes[len(args[0])]:
                    break
                if tokens[start + 3] != sizes[len(args[1])]:
                    break
                if count == 3 and tokens[start + 5] != sizes[len(args[2])]:
                    break
            elif [sizes[len(arg)] for arg in args] != tokens[start + 1 : end : 2]:
                break
            add(args)
            start = end
    except LookupError:  # longer ones; an argument with the end of a line inside does not fit
        pass
    if start == last:
        return len(data) - len(tokens[last])
    return sum(map(len, tokens[:start])) + 2 * start


def split_words(line: bytes) -> list[bytes]:
    """Split a line at blanks, as Redis does: "..." with escapes, '...' without, both to the end."""
    if b'"' not in line and b"'" not in line:
        return line.split()
    words = []
    at = 0
    while (at := _skip_blanks(line, at)) < len(line):
        word, at = _word(line, at)
        words.append(word)
    return words


def _skip_blanks(line: bytes, at: int) -> int:
    while at < len(line) and line[at : at + 1].isspace():
        at += 1
    return at


def _word(line: bytes, at: int) -> tuple[bytes, int]:
    """Return one word and where it ends."""
    parts = []
    while at < len(line) and not line[at : at + 1].isspace():
        sign = line[at : at + 1]
        if sign in (b'"', b"'"):
            each = _double(line, at + 1) if sign == b'"' else _single(line, at + 1)
            for end, piece in each:
                at = end
                parts.append(piece)
            if at < len(line) and not line[at : at + 1].isspace():
                raise RespError("unbalanced quotes in request")
            break
        parts.append(sign)
        at += 1
    return b"".join(parts), at


def _double(line: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    r"""Yield (what follows, bytes) up to the closing quote. \xHH and the escapes of C are known."""
    while True:
        sign = line[at : at + 1]
        if not sign:
            raise RespError("unbalanced quotes in request")
        if sign == b'"':
            yield at + 1, b""
            return
        if sign == b"\\" and at + 1 < len(line):
            digits = line[at + 2 : at + 4]
            if line[at + 1 : at + 2] == b"x" and len(digits) == 2 and _is_hex(digits):
                at, sign = at + 4, bytes([int(digits, 16)])
            else:
                escaped = line[at + 1 : at + 2]
                at, sign = at + 2, _ESCAPES.get(escaped, escaped)
        else:
            at += 1
        yield at, sign


def _single(line: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    r"""Yield (what follows, bytes) up to the closing quote. Only \' is an escape."""
    while True:
        sign = line[at : at + 1]
        if not sign:
            raise RespError("unbalanced quotes in request")
        if sign == b"'":
            yield at + 1, b""
            return
        if line[at : at + 2] == b"\\'":
            at, sign = at + 1, b"'"
        at += 1
        yield at, sign


def _is_hex(digits: bytes) -> bool:
    return all(digit in b"0123456789abcdefABCDEF" for digit in digits)


def _number(text: bytes) -> int:
    """Return a number of digits only; -1 for anything else."""
    return int(text) if text.isdigit() else -1


def _shown(byte: int) -> str:
    return repr(chr(byte)) if 32 <= byte < 127 else f"'\\x{byte:02x}'"
