"""Values of a fixed size that are unique by construction.

They are not random data to compress or verify: only who wrote them and when can be told.

1. Two values of one Values, or of two with different tags, are never equal.
2. Every value has exactly `size` bytes, all of them printable ASCII that JSON need not escape.
"""

from __future__ import annotations

from kvlab.errors import UsageError
from kvlab.rng import Rng

COUNTER_DIGITS = 7  # base 36: 78 billion values per tag
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def base36(number: int) -> str:
    """Write a number >= 0 with the digits 0-9a-z."""
    if number < len(DIGITS):
        return DIGITS[number]
    high, low = divmod(number, len(DIGITS))
    return base36(high) + DIGITS[low]


class Values:
    """A stream of unique values: `<tag>-<counter>-<filler>`."""

    def __init__(self, size: int, *, tag: str, rng: Rng) -> None:
        least = least_size(tag)
        if size < least:
            raise UsageError(
                f"values of {size} bytes cannot be unique", hint=f"ask for at least {least} bytes"
            )
        if not tag.isalnum() or not tag.isascii():
            raise UsageError(f"the tag of values must be letters and digits, not {tag!r}")
        self._head = f"{tag}-"
        self._filler = "-" + "".join(rng.choices(DIGITS, k=size))
        self._room = size - len(self._head)
        self.count = 0

    def next(self) -> str:
        """Return a value that was never returned before."""
        body = base36(self.count) + self._filler
        self.count += 1
        return self._head + body[: self._room]


def least_size(tag: str) -> int:
    """Return the fewest bytes that values with this tag need to stay unique."""
    return len(tag) + len("-") + COUNTER_DIGITS + len("-")
