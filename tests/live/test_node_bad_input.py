"""Hostile clients against a real node: clear errors, bounded memory, and unharmed neighbours."""

from __future__ import annotations

import contextlib
import json
import random
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvlab.wire.limits import VALUE_LIMIT_BYTES
from kvlab.wire.peer import (
    FRAME_BYTES_MAX,
    HELLO,
    MAGIC,
    TURN,
    FrameReader,
    Hello,
    encode_frame,
    parse_handshake,
)

from .node_process import Cluster, NodeProcess, Wire, nodes, until
from .witness import Witness

pytestmark = pytest.mark.live

MIB = 1024 * 1024


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with nodes(tmp_path) as running:
        yield running


@pytest.fixture
def node(cluster: Cluster) -> Iterator[NodeProcess]:
    """A node that must be alive, and silent about tracebacks, when the test is over."""
    one = cluster.start("server1")
    one.wait_ready()
    yield one
    assert one.ask(type="PING")["info"]["ready"]
    assert "Traceback" not in one.log, one.log


def _send_all(wire: Wire, data: bytes) -> bool:
    """Send as much as the node takes; False if it hung up before the end."""
    try:
        wire.send(data)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def _refused(wire: Wire, code: str, word: str) -> None:
    reply = wire.reply()
    told = {name.lower(): value for name, value in reply.items()}
    assert (told["type"], told["status"], told["code"]) == ("RESPONSE", "ERROR", code), reply
    assert word in told["error"], reply
    assert told["timestamp"]


NO_DOCUMENT = [
    (b'{"type" "GET"}\n', "not JSON"),
    (b'{"type":"GET","key":"k"]\n', "not JSON"),
    (b'{"type":"GET","key":\x80"k"}\n', "JSON"),
    (b'{"type":"GET","key":"\xff\xfe"}\n', "UTF-8"),
    (b'{"type":"GET","key":"k",}\n', "JSON"),
    (b'{"type":"GET","key":nan}\n', "JSON"),
    (b"{]\n", "not JSON"),
    (b" [1,2\x00\n", "not JSON"),
    (b'  "GET k"\n', "object"),
    (b"\x00\x01\x02\x03\n", "not JSON"),
    (b"\xff\xff\xff\xff\n", "not JSON"),
    (MAGIC[:3] + b"XX" + bytes(40), "not JSON"),
    (b'{"a":' * 1000, "nested deeper"),
    (b" " + b"[" * 1_000_000, "nested deeper"),
]


@pytest.mark.parametrize(("data", "word"), NO_DOCUMENT, ids=lambda part: repr(part)[:30])
def test_what_is_no_json_is_refused_and_the_connection_ends(node, data, word):
    with Witness(node), node.wire() as wire:
        _send_all(wire, b'{"type":"SET","key":"k","value":"v"}\n')
        assert wire.reply()["status"] == "SUCCESS"
        _send_all(wire, data)
        reply = wire.reply()
        assert (reply["status"], reply["code"]) == ("ERROR", "BAD_REQUEST")
        assert word in reply["error"] or "object" in reply["error"]
        if "object" not in reply["error"]:
            assert wire.rest() == b""
    assert node.counters["bad_requests"] == 1


WRONG = [
    ({"key": "k"}, "BAD_REQUEST", '"type" is missing'),
    ({"type": None, "key": "k"}, "BAD_REQUEST", '"type" is missing'),
    ({"type": 5, "key": "k"}, "BAD_REQUEST", '"type" must be a string'),
    ({"type": ["GET"], "key": "k"}, "BAD_REQUEST", '"type" must be a string'),
    ({"type": "FLY", "key": "k"}, "BAD_TYPE", "Invalid request type"),
    ({"type": "", "key": "k"}, "BAD_TYPE", "Invalid request type"),
    ({"type": "RESPONSE", "key": "k"}, "BAD_TYPE", "Invalid request type"),
    ({"type": "GET"}, "BAD_REQUEST", 'needs a "key"'),
    ({"type": "GET", "key": None}, "BAD_REQUEST", 'needs a "key"'),
    ({"type": "GET", "key": 5}, "BAD_REQUEST", '"key" must be a string'),
    ({"type": "DELETE", "key": {"a": 1}}, "BAD_REQUEST", '"key" must be a string'),
    ({"type": "SET", "key": "k"}, "BAD_REQUEST", 'needs a "value"'),
    ({"type": "SET", "key": "k", "value": 5}, "BAD_REQUEST", '"value" must be a string'),
    ({"type": "SET", "key": "k", "value": "v", "w": "2"}, "BAD_REQUEST", '"w" must be'),
    ({"type": "SET", "key": "k", "value": "v", "w": -1}, "BAD_REQUEST", '"w" must be'),
    ({"type": "GET", "key": "k", "level": "most"}, "BAD_REQUEST", "level"),
    ({"type": "GET", "key": "k", "ns": "loud"}, "WRONG_MODE", "namespace"),
    ({"type": "GET", "key": "k", "timeout_ms": 10**9}, "BAD_REQUEST", "milliseconds"),
    ({"type": "GET", "key": "k", "timeout_ms": 10**6}, "BAD_REQUEST", "timeout_ms"),
    ({"type": "INSPECT"}, "BAD_REQUEST", 'needs a "key"'),
    ({"type": "LEAVE", "key": "nobody"}, "BAD_REQUEST", "not a member"),
    ({"type": "LEAVE"}, "BAD_REQUEST", "last member"),
    ({"type": "SET", "key": "k" * 70_000, "value": "v"}, "TOO_LARGE", "65536"),
    ({"type": "SET", "key": "k", "value": "v" * (VALUE_LIMIT_BYTES + 1)}, "TOO_LARGE", "limit"),
    ({"type": "GET", "key": "k"} | {f"field{n}": n for n in range(100)}, "BAD_REQUEST", "fields"),
]


def test_a_wrong_request_is_told_what_is_wrong_and_the_next_one_is_served(node):
    with Witness(node), node.wire() as wire:
        for request, code, word in WRONG:
            wire.send(json.dumps(request).encode() + b"\n")
            _refused(wire, code, word)
            assert wire.ask(type="SET", key="fine", value="v")["status"] == "SUCCESS"
    assert node.counters["bad_requests"] == len(WRONG)


def test_one_wrong_request_in_a_pipeline_spoils_no_other(node):
    requests = [{"type": "SET", "key": f"k{n}", "value": f"v{n}"} for n in range(50)]
    wrong = [request for request, _, _ in WRONG[:20]]
    mixed = [one for pair in zip(requests, wrong * 3, strict=False) for one in pair]
    with node.wire() as wire:
        wire.send(b"".join(json.dumps(one).encode() + b"\n" for one in mixed))
        replies = [wire.reply() for _ in mixed]
    assert [reply["status"] for reply in replies] == ["SUCCESS", "ERROR"] * 50


def test_a_line_of_100_megabytes_is_refused_and_not_kept(node):
    before = node.peak_bytes
    with Witness(node), node.wire() as wire:
        whole = _send_all(wire, b'{"type":"SET","key":"k","value":"' + b"a" * (100 * MIB) + b'"}\n')
        assert not whole
        _refused(wire, "TOO_LARGE", "larger than")
        assert wire.rest() == b""
    assert node.peak_bytes - before < 64 * MIB
    assert node.counters["bad_requests"] == 1


def test_binary_rubbish_of_any_first_byte_harms_nobody(node):
    chance = random.Random(7)
    with Witness(node):
        for first in range(256):
            with node.wire() as wire:
                _send_all(wire, bytes([first]) + chance.randbytes(300) + b"\n}]")
                wire.socket.shutdown(socket.SHUT_WR)
                wire.rest()  # an error or nothing, and the end
    counters = node.counters
    assert counters["bad_requests"] + counters.get("bad_frames", 0) >= 200


def test_http_is_told_what_this_is(node):
    with Witness(node), node.wire() as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = wire.rest()
    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"JSON lines" in body
    assert node.counters["bad_requests"] == 1


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"*1\r\n!4\r\nPING\r\n", b"expected '$', got '!'"),
        (b"*99999999\r\n", b"invalid multibulk length"),
        (b"*2\r\n$3\r\nGET\r\n$999999999\r\n", b"invalid bulk length"),
        (b"SET k 'v\r\n", b"unbalanced quotes in request"),
        (b"S" * (64 * 1024 + 1), b"too big inline request"),
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_no_resp_is_told_so(node, data, sentence):
    with Witness(node), node.wire() as wire:
        _send_all(wire, data)
        assert wire.rest() == b"-ERR Protocol error: " + sentence + b"\r\n"
    assert node.counters["bad_requests"] == 1


def test_a_resp_request_of_100_megabytes_is_refused_and_not_kept(node):
    before = node.peak_bytes
    with Witness(node), node.wire() as wire:
        size = 8 * MIB
        head = b"*13\r\n$4\r\nMSET\r\n"
        assert not _send_all(wire, head + b"$%d\r\n%b\r\n" % (size, b"a" * size) * 12)
        assert wire.rest().startswith(b"-ERR Protocol error: a request of more than")
    assert node.peak_bytes - before < 64 * MIB


@pytest.mark.parametrize(
    "data",
    [
        MAGIC + b"rubbish, rubbish, rubbish",
        MAGIC + (FRAME_BYTES_MAX + 1).to_bytes(4, "big"),
        MAGIC + b"\xff\xff\xff\xff" + bytes(1000),
        MAGIC + (100 * MIB).to_bytes(4, "big") + bytes(1000),
        MAGIC + encode_frame([HELLO]),
        MAGIC + encode_frame([TURN, 1, 0, [], 0, [], []]),
        MAGIC + encode_frame({"a": 1}),
        MAGIC + b"\x00\x00\x00\x00",
        MAGIC + (4000).to_bytes(4, "big") + b"\x91" * 4000,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_a_peer_that_talks_rubbish_is_cut_off_and_counted(node, data):
    with Witness(node), node.wire() as wire:
        _send_all(wire, data)
        assert wire.rest() == b""
    assert node.counters["bad_frames"] == 1
    assert node.status["peers"] == {}


@pytest.mark.parametrize(
    "data", [MAGIC[:1], MAGIC, MAGIC + b"\x00\x00", MAGIC + b"\x00\x00\x00\x09x"]
)
def test_a_peer_that_does_not_introduce_itself_is_cut_off_in_time(node, data):
    with node.wire() as wire:
        wire.send(data)
        assert wire.rest() == b""  # HANDSHAKE_SECONDS_MAX; the wire would wait longer


def _introduce(wire: Wire, **change: object) -> bytes:
    """Shake hands as a peer that the node does not know; return what it answers."""
    hello = Hello(HELLO, "kvlab", "stranger", 5, 0, 256, "", 0, "127.0.0.1:1")
    for name, value in change.items():
        setattr(hello, name, value)
    wire.send(MAGIC + encode_frame(hello))
    reader = FrameReader()
    while not (bodies := reader.feed(wire.socket.recv(1 << 16))):
        pass
    return bodies[0]


@pytest.mark.parametrize(
    "turn",
    [
        b"\x00\x00\x00\x01\xc1",
        encode_frame([TURN, "x", 0, [], 0, [], []]),
        encode_frame([TURN, 1, 0, [[1, ["not bytes", 1, "v"]]], 0, [], []]),
        encode_frame([TURN, 1, 0, [], 0, [], [["map", {"epoch": 99}]]]),
        encode_frame([TURN, 1, 0, [], 0, [], [["fly"]]]),
        (FRAME_BYTES_MAX + 1).to_bytes(4, "big"),
    ],
    ids=lambda data: repr(data[:30]),
)
def test_a_peer_that_was_taken_and_then_talks_rubbish_is_cut_off(node, turn):
    with Witness(node), node.wire() as wire:
        assert isinstance(parse_handshake(_introduce(wire)), Hello)
        wire.send(turn)
        wire.rest()
    assert node.counters["bad_frames"] == 1


def test_many_strange_peers_leave_no_trace(node):
    before = node.rss_bytes
    with Witness(node):
        for number in range(300):
            with node.wire() as wire:
                _introduce(wire, node=f"stranger{number}")
    assert node.rss_bytes - before < 16 * MIB
    assert node.status["peers"] == {}


def test_a_thousand_idle_connections_cost_little_and_stop_nobody(node):
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(1000, soft // 2)
    before = node.rss_bytes
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(node.wire())
        with Witness(node):
            until(lambda: node.status["connections"] >= count, "all to be counted")
        assert node.rss_bytes - before < 32 * MIB
    until(lambda: node.status["connections"] <= 1, "all to be forgotten")


def test_storms_of_connections_leave_nothing_behind(node):
    chance = random.Random(3)
    pieces = [b"", b"{", b'{"type":"GET"', b'{"type":"SET","key":"s","value":"v"}\n' * 20, MAGIC]
    with Witness(node):
        for number in range(600):
            with node.wire() as wire:
                _send_all(wire, chance.choice(pieces))
                if number % 2:
                    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # a reset in place of an end
                    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    until(lambda: node.status["connections"] <= 1, "all to be forgotten")


def _stuff(wire: Wire, data: bytes, limit: int) -> int:
    """Send `data` over and over without reading, until the node takes no more."""
    wire.socket.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError, ConnectionError):
        while sent < limit:
            sent += wire.socket.send(data)
    return sent


@pytest.mark.parametrize("members", [1, 3])
def test_a_client_that_asks_a_lot_and_never_reads_is_held_back(cluster, members):
    one = cluster.found(members)[0]
    with one.wire() as wire:
        assert wire.ask(type="SET", key="big", value="x" * 100_000)["status"] == "SUCCESS"
    before = one.peak_bytes
    with Witness(one), one.wire() as wire:
        sent = _stuff(wire, b'{"type":"GET","key":"big"}\n' * 1000, 200 * MIB)
        assert sent < 20 * MIB  # of requests whose answers would be 4000 times as large
        assert one.peak_bytes - before < 128 * MIB


@pytest.mark.parametrize("members", [1, 3])
def test_a_client_that_reads_gets_all_it_asked_for_at_once(cluster, members):
    """Far more than is ever kept for one that does not read."""
    one = cluster.found(members)[0]
    value = "x" * MIB
    count = 150
    with one.wire() as wire:
        assert wire.ask(type="SET", key="big", value=value)["status"] == "SUCCESS"
        before = one.peak_bytes
        asked = wire.ask(type="STATUS")["info"]["counters"]["requests"]
        wire.send(b'{"type":"GET","key":"big"}\n' * count)
        wire.send(b'{"type":"SET","key":"small","value":"v"}\n{"type":"GET","key":"small"}\n')
        for number in range(count):
            line = wire.line()
            assert len(line) > MIB, (number, line[:200])
        assert wire.reply()["status"] == "SUCCESS"
        assert wire.reply()["value"] == "v"
        after = wire.ask(type="STATUS")["info"]["counters"]["requests"]
        assert after == asked + count + 3  # each counted once, although most had to wait
    assert one.peak_bytes - before < 64 * MIB


def test_a_client_that_is_done_sending_still_gets_its_replies(node):
    with node.wire() as wire:
        wire.send(b'{"type":"SET","key":"k","value":"v"}\n' * 500)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.rest().count(b'"SUCCESS"') == 500
