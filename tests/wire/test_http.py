from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.wire.http import HEAD_BYTES_MAX, HttpReader, encode_reply

REQUEST = b"GET /metrics?x=1 HTTP/1.1\r\nHost: localhost:8081\r\nAccept: */*\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_request_is_read_in_pieces_of_any_size(size: int) -> None:
    reader = HttpReader()
    pieces = [REQUEST[at : at + size] for at in range(0, len(REQUEST), size)]

    told = [reader.feed(piece) for piece in pieces]

    assert told[-1] == ("GET", "/metrics")
    assert set(told[:-1]) <= {None}


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/1.1 more\r\n\r\n", 400),
        (b"GET / SPDY/3\r\n\r\n", 400),
        ("GET /\u00e4 HTTP/1.1\r\n\r\n".encode(), 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES_MAX, 431),
    ],
)
def test_what_is_no_request_is_refused(head: bytes, status: int) -> None:
    assert HttpReader().feed(head) == status


@given(st.lists(st.binary(max_size=3000), max_size=8))
def test_any_bytes_are_answered_or_awaited_and_never_kept_beyond_the_limit(pieces) -> None:
    reader = HttpReader()
    for piece in pieces:
        told = reader.feed(piece)
        assert told is None or isinstance(told, int | tuple)
        assert len(reader._head) <= HEAD_BYTES_MAX + 1
        if told is not None:
            return


def test_a_reply_to_head_says_how_long_the_body_would_be() -> None:
    whole, head = encode_reply(200, "ok\n"), encode_reply(200, "ok\n", head_only=True)

    assert whole == head + b"ok\n"
    assert b"Content-Length: 3\r\n" in head
    assert head.endswith(b"\r\n\r\n")
