"""Texts with units <-> numbers: "200ms", "64kb", "50mbit", "400/s", and the tables' way back.

It does not know where a text stands: callers add the file and line (see spec/problems.py).

The units, in any case, with or without a space before them:

    duration   us ms s m h                   -> int, microseconds
    size       b kb mb gb, kib mib gib       -> int, bytes; all of them 1024-based, as in redis.conf
    bandwidth  bit kbit mbit gbit (or /s)    -> int, bytes per second; 1000-based, as networks count
               b/s kb/s mb/s gb/s            -> the same; 1024-based, as sizes
    rate       /s /m                         -> float, per second

Invariants:

1. A number without a unit is never guessed at: it is a `UnitError` that says what to write.
2. Whatever a `format_` function here prints for a value in range, its `parse_` twin reads.
3. With `exact=True` the value read is the value printed; else it differs by at most half a percent
   (and half of the smallest unit).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from types import MappingProxyType
from typing import Final

DURATION_UNITS_US: Final[Mapping[str, int]] = MappingProxyType(
    {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
)
SIZE_UNITS_BYTES: Final[Mapping[str, int]] = MappingProxyType(
    {"b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}
)
BANDWIDTH_UNITS_BITS: Final[Mapping[str, int]] = MappingProxyType(
    {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
)
RATE_UNITS_SECONDS: Final[Mapping[str, int]] = MappingProxyType({"/s": 1, "/m": 60})

DURATION_US_MAX: Final = 366 * 24 * 3_600_000_000
"""A year: longer waits are typing mistakes."""
SIZE_BYTES_MAX: Final = 1 << 50
BANDWIDTH_BYTES_PER_S_MAX: Final = 10**12
RATE_PER_S_MAX: Final = 1e9
TEXT_CHARS_MAX: Final = 64
"""Longer texts are no numbers; the limit keeps exact arithmetic cheap."""

_BITS_PER_BYTE: Final = 8
_SIGNIFICANT: Final = 1_000  # three significant digits are what a reader compares
_NUMBER = r"(?P<number>-?[0-9]+(?:\.[0-9]+)?|-?\.[0-9]+)"
_TEXT = re.compile(rf"{_NUMBER}\s*(?P<unit>[a-z/]*)")
_GROUPED_RATE = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?\s*/[a-z]+")

_SIZE_ALIASES: Final = {"kib": "kb", "mib": "mb", "gib": "gb"}


class UnitError(ValueError):
    """A text is not the quantity that it should be.

    `complaint` continues the sentence "<text> ..." and `advice` says what to write, so that a
    caller who knows the file and the field can build its own sentence from the two.
    """

    def __init__(self, text: str, complaint: str, advice: str) -> None:
        self.complaint = complaint
        self.advice = advice
        super().__init__(f"{_shown(text)} {complaint}; {advice}")


def parse_duration(text: str) -> int:
    """Read "200ms" or "1.5s" as microseconds, 0 to a year; raise UnitError with what to write."""
    number = _number(text, DURATION_UNITS_US, what="a duration", samples=("ms", "s"))
    advice = "write a duration such as 200ms, 5s or 1m"
    if number > DURATION_US_MAX:
        raise UnitError(text, "is longer than a year", advice)
    if number.denominator != 1:
        raise UnitError(text, "is not a whole number of microseconds", advice)
    return number.numerator


def parse_size(text: str) -> int:
    """Read "64kb" as bytes (1kb = 1kib = 1024 bytes), rounded to a whole one; raise UnitError."""
    number = _number(
        text, SIZE_UNITS_BYTES, what="a size", samples=("kb", "mb"), aliases=_SIZE_ALIASES
    )
    advice = "write a size such as 512b, 64kb or 1gb"
    if number > SIZE_BYTES_MAX:
        raise UnitError(text, "is more than a pebibyte", advice)
    return _rounded(text, number, "is less than one byte", advice)


def parse_bandwidth(text: str) -> int:
    """Read "50mbit" or "6mb/s" as bytes per second, rounded to a whole one; raise UnitError."""
    units = {name: Fraction(bits, _BITS_PER_BYTE) for name, bits in BANDWIDTH_UNITS_BITS.items()}
    units |= {f"{name}/s": Fraction(size) for name, size in SIZE_UNITS_BYTES.items()}
    aliases = {f"{name}/s": name for name in BANDWIDTH_UNITS_BITS}
    aliases |= {f"{alias}/s": f"{name}/s" for alias, name in _SIZE_ALIASES.items()}
    number = _number(text, units, what="a bandwidth", samples=("mbit", "kb/s"), aliases=aliases)
    advice = "write a bandwidth such as 50mbit, 256kbit or 2mb/s"
    if number > BANDWIDTH_BYTES_PER_S_MAX:
        raise UnitError(text, "is more than a terabyte per second", advice)
    return _rounded(text, number, "is less than one byte per second", advice)


def parse_rate(text: str) -> float:
    """Read "400/s", "12,000/s" or "90/m" as a number per second; raise UnitError."""
    plain = text.strip()
    if len(plain) <= TEXT_CHARS_MAX and _GROUPED_RATE.fullmatch(plain.lower()):
        plain = plain.replace(",", "")
    units = {name: Fraction(1, seconds) for name, seconds in RATE_UNITS_SECONDS.items()}
    number = _number(plain, units, what="a rate", samples=("/s", "/m"))
    if number > Fraction(RATE_PER_S_MAX):
        raise UnitError(text, "is more than a thousand million per second", "write less")
    return float(number)


def format_duration(us: float, *, exact: bool = False) -> str:
    """Print microseconds as "850us", "1.23ms", "12.3s", "1.5h"; exact: the largest whole unit."""
    return _format(us, DURATION_UNITS_US, zero="0ms", exact=exact)


def format_size(size_bytes: float, *, exact: bool = False) -> str:
    """Print bytes as "512b", "1.5kb", "20mb"; exact: the largest unit that divides it."""
    return _format(size_bytes, SIZE_UNITS_BYTES, zero="0b", exact=exact)


def format_bandwidth(bytes_per_s: float, *, exact: bool = False) -> str:
    """Print bytes per second as "50mbit"; exact: the largest unit that divides it."""
    return _format(bytes_per_s * _BITS_PER_BYTE, BANDWIDTH_UNITS_BITS, zero="0bit", exact=exact)


def format_rate(per_s: float, *, exact: bool = False) -> str:
    """Print a number per second as "0.25/s", "12.5/s", "12,345/s"; exact: all its digits."""
    if exact:
        return f"{_plain(Decimal(repr(float(per_s))))}/s"
    if abs(per_s) >= _SIGNIFICANT - 0.5:
        return f"{round(per_s):,}/s"
    return f"{_three_digits(Fraction(per_s))}/s"


def format_count(count: int) -> str:
    """Print a count for a table: "12,345"."""
    return f"{count:,}"


def _number(
    text: str,
    units: Mapping[str, int] | Mapping[str, Fraction],
    *,
    what: str,
    samples: tuple[str, str],
    aliases: Mapping[str, str] | None = None,
) -> Fraction:
    """Split `text` into number and unit and multiply them, exactly."""
    first, second = samples
    known = ", ".join(units)
    found = _TEXT.fullmatch(text.strip().lower()) if len(text) <= TEXT_CHARS_MAX else None
    if found is None:
        advice = f"write a number and a unit, such as 5{first} or 2{second} (units: {known})"
        raise UnitError(text, f"is not {what}", advice)
    number, unit = found["number"], found["unit"]
    if not unit:
        sample = number.lstrip("-")
        advice = f"write {sample}{first} or {sample}{second} (units: {known})"
        raise UnitError(text, "has no unit", advice)
    unit = (aliases or {}).get(unit, unit)
    if unit not in units:
        raise UnitError(text, f"has the unit {unit!r}, which {what} has not", f"use {known}")
    if number.startswith("-"):
        raise UnitError(text, "is negative", f"write {what} of at least 0{first}")
    return Fraction(number) * units[unit]


def _rounded(text: str, number: Fraction, complaint: str, advice: str) -> int:
    """Round to a whole number, but never something to nothing."""
    whole = round(number)
    if number and not whole:
        raise UnitError(text, complaint, advice)
    return whole


def _format(value: float, units: Mapping[str, int], *, zero: str, exact: bool) -> str:
    """Print `value`, counted in the smallest unit, in the unit that reads best."""
    if exact and value != int(value):
        raise ValueError(f"{value} has a fraction; only whole numbers print exactly")
    whole = round(value)
    if not whole:
        return zero
    if exact:
        name = max((n for n in units if whole % units[n] == 0), key=lambda n: units[n])
        return f"{whole // units[name]}{name}"
    sign = "-" if whole < 0 else ""
    size = Fraction(abs(whole))
    names = list(units)
    for name, larger in pairwise(names):
        shown = _three_digits(size / units[name])
        # 999.9ms rounds to 1000ms, which is better said as 1s.
        if Decimal(shown) * units[name] < units[larger]:
            return f"{sign}{shown}{name}"
    return f"{sign}{_three_digits(size / units[names[-1]])}{names[-1]}"


def _three_digits(number: Fraction) -> str:
    """Print with three significant digits, more only before the point, no idle zeros."""
    size = abs(number)
    if not size:
        return "0"
    digits = 2
    while size >= 10 and digits:
        size /= 10
        digits -= 1
    while size < 1 and digits < TEXT_CHARS_MAX // 2:
        size *= 10
        digits += 1
    return _plain(round(Decimal(number.numerator) / Decimal(number.denominator), digits))


def _plain(number: Decimal) -> str:
    """Print without an exponent and without zeros after the last digit of a fraction."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _shown(text: str) -> str:
    """Quote a text of any length for a message, on one line."""
    cut = text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 3] + "..."
    return repr(cut)
