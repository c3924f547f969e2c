"""Whatever strangers send: no exception but a protocol error, no loss, and time in proportion.

How much time is compared with itself: four times as many bytes must not take sixteen times as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings

from kvlab.kv.session import ClientSession
from kvlab.wire.json_lines import JsonReader
from kvlab.wire.peer import FrameError, FrameReader, encode_frame, parse_handshake, parse_turn
from kvlab.wire.resp import RespReader

from .fuzz import NOW_US, fuzz_json, fuzz_peer, fuzz_resp, node, streams

FEW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@FEW
@given(streams("json"))
@example(b'{"type":"GET","key":"a"}{"Type":"GET","Key":"a"}\n')
@example(b'{"type":"AUTH","value":"secret"}\n{"type":"GET","key":"a"}')
@example(b'\xef\xbb\xbf{"type":"\\ud800"}')
def test_json(data: bytes) -> None:
    fuzz_json(data)


@FEW
@given(streams("resp"))
@example(b"HELLO 3\r\nFLUSHALL\r\nHELLO 2\r\nGET k\r\n")
@example(b"AUTH secret\r\nSELECT 1\r\nMULTI\r\nGET k\r\nEXEC\r\nRESET\r\nQUIT\r\nGET k\r\n")
def test_resp(data: bytes) -> None:
    fuzz_resp(data)


@FEW
@given(streams("peer"))
@example(b"\xff" * 8)
@example(b"\x00\x00\x00\x00" * 3)
def test_peer(data: bytes) -> None:
    fuzz_peer(data)


# -- time -----------------------------------------------------------------------------------------


def feed_json(data: bytes) -> None:
    JsonReader().feed(data)


def feed_json_pieces(data: bytes) -> None:
    reader = JsonReader()
    for piece in pieces(data):
        reader.feed(piece)


def feed_resp(data: bytes) -> None:
    RespReader().feed(data)


def feed_resp_pieces(data: bytes) -> None:
    reader = RespReader()
    for piece in pieces(data):
        reader.feed(piece)


def feed_frames_pieces(data: bytes) -> None:
    reader = FrameReader()
    for piece in pieces(data):
        reader.feed(piece)


def ask_alone(data: bytes) -> None:
    ask(ClientSession(node()), [data])


def ask_locked_pieces(data: bytes) -> None:
    ask(ClientSession(node(password="secret")), pieces(data))


def ask(session: ClientSession, parts: list[bytes]) -> None:
    for part in parts:
        session.feed(part, NOW_US)
        while session.wants_turn:
            session.go_on(NOW_US)


def parse_nested(data: bytes) -> None:
    for parse in (parse_turn, parse_handshake):
        with pytest.raises(FrameError):
            parse(data)


def json_of(depth: int) -> bytes:
    return b'{"type":"GET","key":"k","req_id":' + b"[" * depth + b"]" * depth + b"}"


def pieces(data: bytes) -> list[bytes]:
    return [data[at : at + 16] for at in range(0, len(data), 16)]


SHAPES: dict[str, tuple[Callable[[bytes], None], Callable[[int], bytes], int]] = {
    "json string": (feed_json_pieces, lambda n: b'{"type":"' + b"x" * n, 16_000),
    "json escapes": (feed_json_pieces, lambda n: b'{"type":"' + b"\\n" * (n // 2), 16_000),
    "json lines inside": (feed_json_pieces, lambda n: b'{"type":\n' + b"\n" * n, 16_000),
    "json blanks": (feed_json_pieces, lambda n: b" " * n, 16_000),
    "json scalars": (feed_json_pieces, lambda n: b"[" + b"1," * (n // 2), 4000),
    "json nesting": (feed_json, lambda n: json_of(n // 2), 40_000),
    "json documents": (feed_json, lambda n: b'{"type":"GET","key":"k","a":1}' * (n // 30), 12_000),
    "json rubbish fields": (
        feed_json,
        lambda n: b'{"a":1,' + b'"b":1,' * (n // 6) + b'"c":1}',
        4000,
    ),
    "resp bulk": (feed_resp_pieces, lambda n: b"*1\r\n$999999\r\n" + b"x" * n, 16_000),
    "resp arguments": (
        feed_resp_pieces,
        lambda n: b"*99999\r\n" + b"$0\r\n\r\n" * (n // 6),
        12_000,
    ),
    "resp line": (feed_resp_pieces, lambda n: b"x" * n, 16_000),
    "resp quotes": (feed_resp, lambda n: b'"' + b"\\x41" * (n // 4) + b'"\r\n', 12_000),
    "resp tiny commands": (ask_alone, lambda n: b"PING\r\n" * (n // 6), 20_000),
    "resp namespaces": (ask_alone, lambda n: b"SELECT 1\r\nSELECT 0\r\n" * (n // 20), 20_000),
    "resp versions": (ask_alone, lambda n: b"HELLO 3\r\nHELLO 2\r\n" * (n // 18), 3000),
    "resp flushes": (ask_alone, lambda n: b"FLUSHDB x y\r\n" * (n // 13), 20_000),
    "resp before the password": (
        ask_locked_pieces,
        lambda n: b"*99999\r\n" + b"$0\r\n\r\n" * (n // 6),
        12_000,
    ),
    "frames": (feed_frames_pieces, lambda n: encode_frame(b"x" * n), 16_000),
    "frames, empty": (feed_frames_pieces, bytes, 16_000),
    "frames, nested": (parse_nested, lambda n: b"\x91" * n + b"\xc0", 100_000),
    "frames, flat": (parse_nested, lambda n: msgspec.msgpack.encode([3] * n), 40_000),
}


def cost_ns(run: Callable[[bytes], None], data: bytes) -> int:
    began = time.process_time_ns()
    run(data)
    return time.process_time_ns() - began


@pytest.mark.parametrize("shape", SHAPES)
def test_time_is_in_proportion(shape: str) -> None:
    run, make, size = SHAPES[shape]
    few, many = make(size), make(4 * size)
    run(few)  # what is made at the first call
    costs = [(cost_ns(run, few), cost_ns(run, many)) for _ in range(3)]

    small, large = (min(each) for each in zip(*costs, strict=True))
    assert large < 9 * max(small, 100_000), costs


def test_what_is_kept_before_the_password_is_bounded_also_in_empty_arguments() -> None:
    session = ClientSession(node(password="secret"))
    replies = session.feed(b"*99999\r\n" + b"$0\r\n\r\n" * 5000, NOW_US)
    assert b"longer than may be sent before the password" in replies
    assert session.close_due
