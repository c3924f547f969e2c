"""SCAN for RESP clients: its options and its reply. The walk itself is in `scan`."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from typing import TYPE_CHECKING

from kvlab.kv.resp_answer import RespBatch, failure
from kvlab.kv.resp_linear import NOT_AN_INTEGER
from kvlab.kv.scan import PLACE_BITS
from kvlab.wire.resp_encode import array, bulk, error

if TYPE_CHECKING:
    from kvlab.kv.resp_client import RespClient

COUNT_DEFAULT = 10
COUNT_MAX = 10_000
PATTERN_BYTES_MAX = 1024
_DIGITS_MAX = 20
_SYNTAX = error("ERR syntax error")


def scan(client: RespClient, batch: RespBatch, args: list[bytes], now_us: int) -> bytes | None:
    """SCAN cursor [MATCH pattern] [COUNT number] [TYPE type]."""
    node = client.node
    cursor = _number(args[1])
    ranges = node.state.settings.range_count
    if cursor is None or cursor >> 1 >= ranges << PLACE_BITS:
        return error("ERR invalid cursor")
    count, pattern, nothing = COUNT_DEFAULT, None, False
    rest = iter(args[2:])
    for option in rest:
        value = next(rest, b"")
        match option.upper():
            case b"COUNT":
                number = _number(value)
                if not number:
                    return NOT_AN_INTEGER if number is None else _SYNTAX
                count = min(number, COUNT_MAX)
            case b"MATCH":
                if len(value) > PATTERN_BYTES_MAX:
                    return error(f"ERR a pattern may have {PATTERN_BYTES_MAX} bytes")
                pattern = pattern_of(value)
            case b"TYPE":
                nothing = value.lower() != b"string"  # all values are
            case _:
                return _SYNTAX
    if not node.state.is_open:
        return failure(node.state.why_closed, node.membership.starting())
    if node.scans.is_full:
        return failure("BUSY", "too many scans are under way; try again later")
    index = len(batch.replies)
    batch.replies.append(b"")
    batch.pending += 1

    def end(following: int, keys: list[bytes] | None) -> None:
        if keys is None:
            batch.replies[index] = failure("UNAVAILABLE", "no replica of a range can be reached")
        else:
            told = (
                [] if nothing else [key for key in keys if pattern is None or pattern(_text(key))]
            )
            parts = [bulk(b"%d" % following), array([bulk(key) for key in told])]
            batch.replies[index] = array(parts)
            batch.heavy_bytes += sum(map(len, told))
        node.quorum.end(batch)

    node.scans.begin(client.db, cursor, count, end, now_us)
    return None


def pattern_of(pattern: bytes) -> Callable[[str], object]:
    """Return what matches the texts that a pattern of Redis means: * ? [a-z] [^a] and a backslash."""
    text = _text(pattern)
    out, at = "", 0
    while at < len(text):
        sign = text[at]
        if sign == "\\" and at + 1 < len(text):
            at += 1
            out += f"[{text[at]}]" if text[at] in "*?[" else text[at]
        elif sign == "[" and text[at + 1 : at + 2] == "^":
            at += 1
            out += "[!"
        else:
            out += sign
        at += 1
    return re.compile(translate(out)).match


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _number(text: bytes) -> int | None:
    return int(text) if text.isdigit() and len(text) <= _DIGITS_MAX else None
