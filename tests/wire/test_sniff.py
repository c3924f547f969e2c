"""Protocols are told apart by their first bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.wire.sniff import PEER_MAGIC, Protocol, sniff


@pytest.mark.parametrize("first", [b"{", b" ", b"\t", b"\r", b"\n", b"\xef\xbb\xbf{", b'{"type"'])
def test_braces_blanks_and_byte_order_marks_open_json(first):
    assert sniff(first) is Protocol.JSON


@pytest.mark.parametrize("first", [b"*", b"*1\r\n$4\r\nPING\r\n", b"PING\r\n", b"p", b"get k\r\n"])
def test_stars_and_letters_open_resp(first):
    assert sniff(first) is Protocol.RESP


@pytest.mark.parametrize("length", range(1, len(PEER_MAGIC) + 1))
def test_any_prefix_of_the_magic_opens_a_peer_link(length):
    assert sniff(PEER_MAGIC[:length]) is Protocol.PEER


@pytest.mark.parametrize(
    "first",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.0\r\n",
        b"GET /heal",
        b"POST /x",
        b"post / HTTP/1.1\r\n",
        b"Host: example\r\n",
    ],
)
def test_requests_of_browsers_are_http(first):
    assert sniff(first) is Protocol.HTTP


def test_an_inline_get_of_a_key_with_a_slash_is_resp_once_its_line_ends():
    assert sniff(b"GET /key\r\n") is Protocol.RESP


@pytest.mark.parametrize("first", [b"", b"\x00", b"\xf3KVX", b"\x16\x03\x01", b"[", b"5", b'"'])
def test_anything_else_is_unknown(first):
    assert sniff(first) is Protocol.UNKNOWN


@given(st.binary())
def test_every_input_gets_an_answer(data):
    assert isinstance(sniff(data), Protocol)
