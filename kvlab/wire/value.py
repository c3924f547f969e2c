"""Values that end by themselves: the time of their end goes with them wherever they are kept or sent.

It reads no clock. A value that has expired reads as absent, and counts as a deletion of its own
version, so that no message is needed for it to end everywhere.
"""

from __future__ import annotations

from typing import Any

import msgspec

AT_US_MAX = 2**62  # the latest end, in microseconds since 1970


class Expiring(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A value and when it ends, in Unix microseconds. Its length is that of the value."""

    value: str | bytes
    at_us: int

    def __len__(self) -> int:
        return len(self.value)


def live(value: Any, now_us: int) -> str | bytes | None:
    """Return what a stored value reads as; None where it is a tombstone, or has expired."""
    if type(value) is Expiring:
        return value.value if now_us < value.at_us else None
    plain: str | bytes | None = value
    return plain


def stored(raw: Any) -> str | bytes | Expiring | None:
    """Return a value as it is kept, from what msgpack made of it; raise ValueError if it is none."""
    if raw is None or type(raw) in (str, bytes, Expiring):
        value: str | bytes | Expiring | None = raw
        return value
    if type(raw) is list and len(raw) == 2:
        plain, at_us = raw
        if type(plain) in (str, bytes) and type(at_us) is int and 0 <= at_us <= AT_US_MAX:
            return Expiring(plain, at_us)
    raise ValueError("a value is text, bytes, nothing, or one of these with its end")
