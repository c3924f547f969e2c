"""Fuzzing of what strangers can send: `scripts/fuzz [json|resp|peer] --time 60s`.

A target takes any bytes, feeds them in one piece and in many to a codec and to a node, and raises if
anything but the promised happens: another exception than a protocol error, another answer for another
cut, more kept than the bound. With atheris the bytes are led by coverage; without it Hypothesis
mutates examples, and shrinks what fails.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import hiredis
import msgspec
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from kvlab.errors import KvlabError
from kvlab.kv.node import Node
from kvlab.kv.password import Password
from kvlab.kv.session import ClientSession
from kvlab.kv.state import Settings
from kvlab.units import parse_duration
from kvlab.wire.json_lines import JsonReader
from kvlab.wire.limits import Limits
from kvlab.wire.peer import (
    HELLO,
    TURN,
    FrameError,
    FrameReader,
    Hello,
    encode_frame,
    parse_handshake,
    parse_turn,
    records_of,
)
from kvlab.wire.resp import RespError, RespReader

NOW_US = 1_800_000_000_000_000
SMALL = Limits(document_bytes=4096, key_bytes=64, value_bytes=256, depth=8)
EXAMPLES = 100  # of one round of Hypothesis


def node(count: int = 1, password: str = "") -> Node:
    """Return a node that serves alone, or (count > 1) the first of a founded cluster of such."""
    initial = tuple((f"server{one}", f"server{one}:1") for one in range(1, count + 1))
    made = Node(
        Settings(
            id="server1",
            cluster="fuzz",
            address="server1:1",
            client_address="server1:2",
            boot=NOW_US,
            initial=initial if count > 1 else (),
            replication=count,
            range_count=16,
            r=1,
            w=1,
            password=Password(password) if password else None,
        ),
        NOW_US,
    )
    if count == 1:
        made.membership.alone(NOW_US)
    return made


def pieces(data: bytes, most: int = 4096) -> Iterator[bytes]:
    """Cut bytes at places that they choose themselves, in about as many pieces as wanted."""
    step = max(1 + (len(data) and data[-1] % 11), len(data) // most)
    ends = [*range(0, len(data), step), len(data)]
    return (data[start:end] for start, end in pairwise(ends))


# -- targets --------------------------------------------------------------------------------------


def fuzz_json(data: bytes) -> None:
    """Feed a JSON client's bytes to the reader and to nodes."""
    whole, cut = JsonReader(SMALL), JsonReader(SMALL)
    at_once = whole.feed(data)
    bit_by_bit = [one for piece in pieces(data) for one in cut.feed(piece)]
    assert at_once == bit_by_bit, (at_once, bit_by_bit)
    assert whole.closed is cut.closed
    assert whole.waiting_bytes <= SMALL.document_bytes + len(data)
    assert cut.examined <= 8 * len(data) + 64
    _serve(b" " + data, _lines)


def fuzz_resp(data: bytes) -> None:
    """Feed a RESP client's bytes to the reader and to nodes."""
    assert _resp([data]) == _resp(pieces(data))
    _serve(b"*1\r\n$4\r\nPING\r\n" + data, _replies)


def _resp(parts: Iterator[bytes] | list[bytes]) -> tuple[list[list[bytes]], str]:
    reader, requests = RespReader(SMALL), list[list[bytes]]()
    for piece in parts:
        try:
            requests += reader.feed(piece)
        except RespError as error:
            return requests + error.requests, str(error)
    assert all(requests)
    return requests, ""


def _serve(data: bytes, read: Callable[[bytes], int]) -> None:
    """Let clients of three nodes send this; every reply must be whole, and none be missing."""
    for made in (node(), node(password="secret"), node(3)):
        told = []
        for parts in ([data], pieces(data, 12)):
            session, got = ClientSession(made), b""
            for piece in parts:
                if session.close_due:
                    break
                got += session.feed(piece, NOW_US)
                while session.wants_turn:
                    got += session.go_on(NOW_US)
                got += _turn(made, session)
            made.tick(NOW_US + 10_000_000)
            got += _turn(made, session) + session.expire(NOW_US + 60_000_000)
            told.append(read(got))
        assert not made.state.rest, "requests were left"


def _turn(made: Node, session: ClientSession) -> bytes:
    made.take_frames()
    return b"".join(session.release() for batch in made.finished if batch.conn is session)


def _lines(data: bytes) -> int:
    for line in data.splitlines():
        reply = msgspec.json.decode(line)
        names = [name.lower() for name in reply][:6]
        assert names == ["type", "key", "value", "timestamp", "status", "error"], reply
    return data.count(b"\n")


def _replies(data: bytes) -> int:
    reader = hiredis.Reader(replyError=str)
    reader.feed(data)
    count = 0
    while reader.gets() is not False:
        count += 1
    assert not reader.has_data(), "half a reply"
    return count


def fuzz_peer(data: bytes) -> None:
    """Feed a peer's bytes to the reader of frames and, as frames of a peer, to a node."""
    bodies, error = _frames([data], 0)
    assert _frames(pieces(data), 0)[0][: len(bodies)] == bodies or error
    _frames([data], 1)
    _frames(pieces(data), 1)
    for body in (*bodies, data):
        _only_frame_errors(parse_handshake, body)
        parsed = _only_frame_errors(parse_turn, body)
        if parsed is not None:
            _only_frame_errors(lambda flat: list(records_of(flat)), parsed[5])
            made = node(2)
            made.link_up(_hello(), NOW_US)
            link = made.state.up["server2"]
            _only_frame_errors(lambda body, to=made, by=link: to.frame(by, body, NOW_US), body)
            made.tick(NOW_US + 100_000)
            made.take_frames()


def _frames(parts: Iterator[bytes] | list[bytes], strange: int) -> tuple[list[bytes], bool]:
    reader, bodies = FrameReader(strange), list[bytes]()
    for piece in parts:
        try:
            bodies += reader.feed(piece)
        except FrameError:
            return bodies, True
    return bodies, False


def _only_frame_errors(parse: Callable[..., object], body: object) -> object:
    try:
        return parse(body)
    except FrameError:
        return None


def _hello() -> Hello:
    return Hello(HELLO, "fuzz", "server2", NOW_US, 1, 16, "server1", 0, "server2:1")


# -- examples -------------------------------------------------------------------------------------


def _one_of(words: str) -> st.SearchStrategy[str]:
    return st.sampled_from(words.split())


_WORDS = _one_of(
    "GET SET DEL k {k} v 0 1 -1 SCAN EX PX NX GET KEEPTTL SELECT HELLO 2 3 AUTH secret MULTI EXEC "
    "FLUSHDB INCR MSET MGET INFO CLUSTER SLOTS CONFIG CLIENT LIST COMMAND RESET QUIT EXPIRE"
)
_NUMBER = st.integers(-2, 2**63)
_VALUE = st.recursive(
    st.none() | st.booleans() | _NUMBER | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


def _array(words: list[str]) -> bytes:
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in parts)


_JSON = st.fixed_dictionaries(
    {"type": _one_of("GET SET DELETE CAS INCR STATUS AUTH PING FLY")},
    optional={
        "key": st.text(max_size=6) | _NUMBER,
        "value": st.text(max_size=6) | st.none() | st.just("secret"),
        "ns": st.sampled_from(["", "linear", "no"]),
        "level": st.sampled_from(["one", "available", "atomic", "most"]),
        "r": _NUMBER,
        "ttl_ms": _NUMBER,
        "timeout_ms": _NUMBER,
        "req_id": _NUMBER | st.text(max_size=4) | st.lists(st.none(), max_size=2),
        "meta": st.booleans(),
    },
).map(lambda one: msgspec.json.encode(one) + b"\n")
_CONTROL = st.lists(
    _one_of(
        "map join agree leave ready refused absent digests put pull chunk more fetch records wait "
        "scan scanned register answer do did"
    )
    | _VALUE,
    max_size=7,
)
_TURN = st.tuples(
    st.just(TURN),
    _NUMBER,
    _NUMBER,
    st.lists(_VALUE, max_size=2),
    _NUMBER,
    st.lists(_VALUE, max_size=6),
).flatmap(lambda head: st.lists(_CONTROL, max_size=3).map(lambda more: encode_frame([*head, more])))

PARTS: dict[str, st.SearchStrategy[bytes]] = {
    "json": _JSON | _JSON.map(lambda one: one.replace(b'"type"', b'"Type"')),
    "resp": st.lists(_WORDS, min_size=1, max_size=6).map(_array)
    | st.lists(_WORDS, min_size=1, max_size=5).map(
        lambda words: " ".join(words).encode() + b"\r\n"
    ),
    "peer": _TURN | st.just(encode_frame(_hello())),
}


@st.composite
def streams(draw: st.DrawFn, kind: str) -> bytes:
    """Whole messages with bytes of them lost, changed and doubled."""
    data = bytearray(b"".join(draw(st.lists(PARTS[kind] | st.binary(max_size=12), max_size=6))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 8))
        more = draw(st.binary(max_size=3) | st.just(bytes(data[at : at + size])))
        data[at : at + draw(st.sampled_from([0, size]))] = more
    return bytes(data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "json": fuzz_json,
    "resp": fuzz_resp,
    "peer": fuzz_peer,
}

# -- the command ----------------------------------------------------------------------------------


def main() -> int:
    """Fuzz for a while; 1 if something was found, which is written beside and shown."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="json|resp|peer", help="default: all")
    parser.add_argument("--time", default="60s", help="for each of them (60s)")
    parser.add_argument("--plain", action="store_true", help="Hypothesis, although atheris is here")
    parser.add_argument("--input", type=Path, help="only this file, found before")
    given_ = parser.parse_args()
    kinds = given_.kinds or list(TARGETS)
    if wrong := [kind for kind in kinds if kind not in TARGETS]:
        parser.error(f"{wrong[0]!r} is not known; write {', '.join(TARGETS)}")
    try:
        seconds = parse_duration(given_.time) / 1e6
    except KvlabError as error:
        parser.error(f"--time: {error}")
    if given_.input is not None:
        for kind in kinds:
            TARGETS[kind](given_.input.read_bytes())
        return 0
    led = importlib.util.find_spec("atheris") is not None and not given_.plain
    if led and len(kinds) > 1:
        parser.error("with atheris, name one of json, resp, peer (it ends the process)")
    for kind in kinds:
        if led:  # in a process that has not imported yet what is to be looked into
            argv = [sys.executable, "-m", "tests.wire.fuzz_led", kind, f"{seconds:.0f}"]
            os.execv(sys.executable, argv)
        if not _with_hypothesis(kind, seconds):
            return 1
    return 0


def _with_hypothesis(kind: str, seconds: float) -> bool:
    """Run rounds of new examples until the time is over; False if one failed."""
    last, rounds = b"", 0

    def target(data: bytes) -> None:
        nonlocal last
        last = data
        TARGETS[kind](data)

    end = time.monotonic() + seconds
    begin = time.time_ns()
    while time.monotonic() < end:
        rounds += 1
        run = settings(
            max_examples=EXAMPLES,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )(seed(begin + rounds)(given(streams(kind))(target)))
        try:
            run()
        except Exception:
            found = Path(f"fuzz-{kind}-{begin}.bin")
            found.write_bytes(last)
            again = f"scripts/fuzz {kind} --input {found}"
            sys.stderr.write(f"{kind}: {last!r}\nagain: {again}\n")
            raise
    sys.stdout.write(f"{kind}: {rounds * EXAMPLES:,} examples, nothing found\n")
    return True


if __name__ == "__main__":
    sys.exit(main())
