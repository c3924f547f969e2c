"""Replies -> bytes, for RESP2 and RESP3. It keeps nothing and knows no command.

Where the two versions differ, the caller says which one the client speaks: 2 or 3.
"""

from __future__ import annotations

from typing import Any

OK = b"+OK\r\n"
NULL = {2: b"$-1\r\n", 3: b"_\r\n"}
"""There is no such value, by version."""

_LINE_ENDS = str.maketrans("\r\n", "  ")  # inside of a line they would end it


def simple(text: str) -> bytes:
    """Write a short text of the server's own."""
    return b"+%b\r\n" % text.translate(_LINE_ENDS).encode()


def error(text: str) -> bytes:
    """Write an error; its first word is a code in capitals."""
    return b"-%b\r\n" % text.translate(_LINE_ENDS).encode("utf-8", "replace")


def integer(number: int) -> bytes:
    """Write a whole number."""
    return b":%d\r\n" % number


def bulk(data: bytes) -> bytes:
    """Write any bytes."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def array(parts: list[bytes]) -> bytes:
    """Write an array of what was written before."""
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def text_block(text: str, protocol: int) -> bytes:
    """Write text of many lines for people: verbatim text in version 3, any bytes in version 2."""
    data = text.encode()
    if protocol == 2:
        return bulk(data)
    return b"=%d\r\ntxt:%b\r\n" % (len(data) + 4, data)


def encode(value: Any, protocol: int) -> bytes:
    """Write None, bool, int, float, str, bytes, a list, tuple or dict of these.

    Version 2 has no maps, truth values and floating numbers: they become flat arrays, 1 or 0, and
    text.
    """
    if value is None:
        return NULL[protocol]
    if isinstance(value, bool):
        return (b"#t\r\n" if value else b"#f\r\n") if protocol == 3 else integer(value)
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, float):
        text = repr(value).encode()
        return b",%b\r\n" % text if protocol == 3 else bulk(text)
    if isinstance(value, str):
        return bulk(value.encode())
    if isinstance(value, bytes):
        return bulk(value)
    if isinstance(value, dict):
        parts = [encode(part, protocol) for pair in value.items() for part in pair]
        if protocol == 3:
            return b"%%%d\r\n%b" % (len(value), b"".join(parts))
        return array(parts)
    return array([encode(part, protocol) for part in value])
