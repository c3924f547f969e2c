"""What the writers of RESP replies write is what a client reads, in both versions."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.wire.resp_encode import encode, error, simple, text_block

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(), inner, max_size=3),
    max_leaves=12,
)


def read(data: bytes) -> object:
    reader = hiredis.Reader(replyError=str)
    reader.feed(data)
    reply = reader.gets()
    assert reader.gets() is False, "there is more than one reply"
    return reply


def flat(value: object) -> object:
    """Return a value as version 2 can say it."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return repr(value).encode()
    if isinstance(value, dict):
        return [flat(part) for pair in value.items() for part in pair]
    return [flat(part) for part in value] if isinstance(value, list) else value


@given(VALUES)
def test_version_3_says_every_value(value: object) -> None:
    assert read(encode(value, 3)) == value


@given(VALUES)
def test_version_2_says_it_flat(value: object) -> None:
    assert read(encode(value, 2)) == flat(value)


@pytest.mark.parametrize(
    ("value", "second", "third"),
    [
        (None, b"$-1\r\n", b"_\r\n"),
        (True, b":1\r\n", b"#t\r\n"),
        (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
        ({"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
        (("é",), b"*1\r\n$2\r\n\xc3\xa9\r\n", b"*1\r\n$2\r\n\xc3\xa9\r\n"),
    ],
)
def test_the_bytes_of_both_versions(value: object, second: bytes, third: bytes) -> None:
    assert (second, third) == (encode(value, 2), encode(value, 3))


def test_a_line_stays_one_line() -> None:
    assert simple("a\r\nb") == b"+a  b\r\n"
    assert error("ERR a\nb \udc80") == b"-ERR a b ?\r\n"


def test_text_for_people() -> None:
    assert text_block("a\nb", 2) == b"$3\r\na\nb\r\n"
    assert text_block("a\nb", 3) == b"=7\r\ntxt:a\nb\r\n"
