"""units: what people write and what tables print, and that one reads the other."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab import units

PARSERS = [units.parse_duration, units.parse_size, units.parse_bandwidth, units.parse_rate]


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("0ms", 0),
        ("7us", 7),
        ("200ms", 200_000),
        ("1.5s", 1_500_000),
        (".5s", 500_000),
        ("2m", 120_000_000),
        ("1h", 3_600_000_000),
        (" 3 S ", 3_000_000),
    ],
)
def test_durations_are_microseconds(text, us):
    assert units.parse_duration(text) == us


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512b", 512),
        ("64kb", 65_536),
        ("64KiB", 65_536),
        ("1.5mb", 1_572_864),
        ("1.23kb", 1_260),
        ("2gb", 2 << 30),
        ("2gib", 2 << 30),
    ],
)
def test_sizes_are_bytes_and_1024_based(text, size):
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [
        ("50mbit", 6_250_000),
        ("50mbit/s", 6_250_000),
        ("1gbit", 125_000_000),
        ("800bit", 100),
        ("2mb/s", 2 << 20),
        ("2MiB/s", 2 << 20),
    ],
)
def test_bandwidths_are_bytes_per_second(text, bytes_per_s):
    assert units.parse_bandwidth(text) == bytes_per_s


@pytest.mark.parametrize(
    ("text", "per_s"), [("400/s", 400.0), ("90/m", 1.5), ("0.25 /s", 0.25), ("12,345/s", 12_345.0)]
)
def test_rates_are_per_second(text, per_s):
    assert units.parse_rate(text) == per_s


@pytest.mark.parametrize(
    ("parse", "text", "sentence"),
    [
        (
            units.parse_duration,
            "200",
            "'200' has no unit; write 200ms or 200s (units: us, ms, s, m, h)",
        ),
        (
            units.parse_duration,
            "soon",
            (
                "'soon' is not a duration;"
                " write a number and a unit, such as 5ms or 2s (units: us, ms, s, m, h)"
            ),
        ),
        (
            units.parse_duration,
            "3d",
            "'3d' has the unit 'd', which a duration has not; use us, ms, s, m, h",
        ),
        (
            units.parse_duration,
            "-3ms",
            "'-3ms' is negative; write a duration of at least 0ms",
        ),
        (
            units.parse_duration,
            "0.5us",
            (
                "'0.5us' is not a whole number of microseconds;"
                " write a duration such as 200ms, 5s or 1m"
            ),
        ),
        (
            units.parse_duration,
            "9000h",
            "'9000h' is longer than a year; write a duration such as 200ms, 5s or 1m",
        ),
        (units.parse_size, "64", "'64' has no unit; write 64kb or 64mb (units: b, kb, mb, gb)"),
        (
            units.parse_bandwidth,
            "1bit",
            (
                "'1bit' is less than one byte per second;"
                " write a bandwidth such as 50mbit, 256kbit or 2mb/s"
            ),
        ),
        (units.parse_rate, "400", "'400' has no unit; write 400/s or 400/m (units: /s, /m)"),
    ],
)
def test_errors_say_what_to_write(parse, text, sentence):
    with pytest.raises(units.UnitError, match=f"^{re.escape(sentence)}$"):
        parse(text)


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.text(max_size=100) | st.from_regex(r"\A-?[0-9.,]*[a-z/]*\Z"))
def test_any_text_is_a_number_at_or_above_zero_or_a_unit_error(parse, text):
    try:
        assert parse(text) >= 0
        said = "a number"
    except units.UnitError as error:
        said = f"{error}{error.advice}"
    assert "\n" not in said


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0ms"),
        (850, "850us"),
        (1_234, "1.23ms"),
        (999_949, "1s"),
        (12_345_678, "12.3s"),
        (59_999_999, "1m"),
        (5_400_000_000, "1.5h"),
        (-2_000, "-2ms"),
        (0.4, "0ms"),
    ],
)
def test_durations_print_with_three_digits(us, text):
    assert units.format_duration(us) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0b"), (1023, "1023b"), (1024, "1kb"), (1536, "1.5kb"), (1 << 40, "1024gb")],
)
def test_sizes_print_in_the_unit_that_reads_best(size, text):
    assert units.format_size(size) == text


@pytest.mark.parametrize(
    ("per_s", "text"),
    [
        (0, "0/s"),
        (0.001234, "0.00123/s"),
        (12.345, "12.3/s"),
        (999.7, "1,000/s"),
        (1234567, "1,234,567/s"),
    ],
)
def test_rates_print_for_tables(per_s, text):
    assert units.format_rate(per_s) == text


def test_counts_and_bandwidths_print_for_tables():
    assert units.format_count(1_234_567) == "1,234,567"
    assert units.format_bandwidth(6_250_000) == "50mbit"


@given(st.integers(0, units.DURATION_US_MAX))
def test_exact_durations_read_back(us):
    assert units.parse_duration(units.format_duration(us, exact=True)) == us


@given(st.integers(0, units.SIZE_BYTES_MAX))
def test_exact_sizes_read_back(size):
    assert units.parse_size(units.format_size(size, exact=True)) == size


@given(st.integers(0, units.BANDWIDTH_BYTES_PER_S_MAX))
def test_exact_bandwidths_read_back(bytes_per_s):
    text = units.format_bandwidth(bytes_per_s, exact=True)
    assert units.parse_bandwidth(text) == bytes_per_s


@given(st.floats(1e-9, units.RATE_PER_S_MAX))
def test_exact_rates_read_back(per_s):
    assert units.parse_rate(units.format_rate(per_s, exact=True)) == per_s


# Each value is at most half of one percent off; the last size of a range may round over the limit.
@given(st.integers(1, units.DURATION_US_MAX * 99 // 100))
def test_short_durations_read_back_within_half_a_percent(us):
    assert abs(units.parse_duration(units.format_duration(us)) - us) <= us * 0.005


@given(st.integers(1, units.SIZE_BYTES_MAX * 99 // 100))
def test_short_sizes_read_back_within_half_a_percent(size):
    assert abs(units.parse_size(units.format_size(size)) - size) <= size * 0.005 + 0.5


@given(st.floats(1e-9, units.RATE_PER_S_MAX * 0.99))
def test_short_rates_read_back_within_half_a_percent(per_s):
    assert abs(units.parse_rate(units.format_rate(per_s)) - per_s) <= per_s * 0.005 + 1e-12


def test_exact_printing_refuses_fractions():
    with pytest.raises(ValueError, match=r"1\.5 has a fraction"):
        units.format_duration(1.5, exact=True)
