"""Dialogues with the reader of RESP requests: what a client sends, what the node is told."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvlab.wire.limits import Limits
from kvlab.wire.resp import ARGUMENTS_MAX, INLINE_BYTES_MAX, RespError, RespReader

SMALL = Limits(document_bytes=60)
ARGUMENTS = st.lists(st.binary(max_size=12) | st.sampled_from([b"\r\n", b"$3\r\nGET", b"x" * 3000]))
REQUESTS = st.lists(ARGUMENTS.filter(len), max_size=6)


def command(*args: bytes) -> bytes:
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in args)


def read(*pieces: bytes, limits: Limits | None = None) -> list[list[bytes]]:
    reader = RespReader(limits) if limits else RespReader()
    return [args for piece in pieces for args in reader.feed(piece)]


def outcome(pieces: list[bytes], limits: Limits) -> tuple[list[list[bytes]], str, bool]:
    """Return what a reader gives for pieces, how it complains, and whether it waits for more."""
    reader = RespReader(limits)
    got: list[list[bytes]] = []
    for piece in pieces:
        try:
            got += reader.feed(piece)
        except RespError as error:
            return got + error.requests, error.message, False
    return got, "", reader.is_waiting


def refused(*pieces: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(RespError) as caught:
        read(*pieces, limits=limits)
    return caught.value.message


# -- arrays ---------------------------------------------------------------------------------------


def test_a_pipeline_gives_its_requests_in_order() -> None:
    reader = RespReader()
    got = reader.feed(command(b"SET", b"k", b"v") + command(b"GET", b"k") + command(b"PING"))

    assert got == [[b"SET", b"k", b"v"], [b"GET", b"k"], [b"PING"]]
    assert not reader.is_waiting


@pytest.mark.parametrize(
    "value", [b"", b"\r\n", b"a\r\nb\r\n$1\r\n", b"\x00\xff" * 9, b"x" * 100_000]
)
def test_arguments_are_any_bytes(value: bytes) -> None:
    assert read(command(b"SET", b"k", value) * 2) == [[b"SET", b"k", value]] * 2


def test_a_request_that_is_cut_is_kept_until_it_is_whole() -> None:
    reader = RespReader()
    assert reader.feed(b"*2\r\n$3\r\nGET\r\n$1") == []
    assert reader.is_waiting
    assert reader.waiting_bytes

    assert reader.feed(b"\r\nk\r\n") == [[b"GET", b"k"]]
    assert not reader.is_waiting
    assert not reader.waiting_bytes


def test_many_arguments_are_one_request() -> None:
    args = [b"MGET", *[b"%d" % number for number in range(1000)]]
    assert read(command(*args)) == [args]


def test_empty_arrays_are_no_requests() -> None:
    assert read(b"*0\r\n*-1\r\n" + command(b"PING")) == [[b"PING"]]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"*x\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*-x\r\n", "invalid multibulk length"),
        (b"*1_0\r\n", "invalid multibulk length"),
        (b"*%d\r\n" % (ARGUMENTS_MAX + 1), "invalid multibulk length"),
        (b"*" + b"1" * 30, "too big mbulk count string"),
        (b"*1\r\n:4\r\nPING\r\n", "expected '$', got ':'"),
        (b"*1\r\n\x00", "expected '$', got '\\x00'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$ 4\r\nPING\r\n", "invalid bulk length"),
        (b"*1\r\n$99999999999\r\n", "invalid bulk length"),
        (b"*1\r\n$" + b"1" * 30, "too big bulk count string"),
        (b"*1\r\n$3\r\nPING\r\n", "an argument is longer than its size said"),
    ],
)
def test_what_is_no_request_is_told_as_redis_tells_it(data: bytes, sentence: str) -> None:
    assert refused(data) == f"Protocol error: {sentence}"
    assert refused(*[data[at : at + 1] for at in range(len(data))]) == f"Protocol error: {sentence}"


def test_what_came_before_an_error_is_not_lost() -> None:
    with pytest.raises(RespError) as caught:
        RespReader().feed(command(b"SET", b"k", b"v") + b"*1\r\n!")

    assert caught.value.requests == [[b"SET", b"k", b"v"]]


def test_a_request_has_a_limit_in_all_its_arguments_together() -> None:
    assert read(command(b"SET", b"k" * 28, b"v" * 29), limits=SMALL)
    assert "more than 60 bytes" in refused(command(b"SET", b"k" * 28, b"v" * 30), limits=SMALL)
    assert "invalid bulk length" in refused(b"*1\r\n$61\r\n", limits=SMALL)


# -- lines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"PING\r\n", [b"PING"]),
        (b"  set  k\tv \n", [b"set", b"k", b"v"]),
        (b'SET k "a \\"b\\" \\x41\\n\\q"\r\n', [b"SET", b"k", b'a "b" A\nq']),
        (b"SET k 'a \\' \\n'\r\n", [b"SET", b"k", b"a ' \\n"]),
        (b"SET \"\" ''\r\n", [b"SET", b"", b""]),
        (b"SET k a'b c'\r\n", [b"SET", b"k", b"ab c"]),
        (b'SET "\\x4" \\\n', [b"SET", b"x4", b"\\"]),
    ],
)
def test_a_line_of_words_is_a_request(line: bytes, words: list[bytes]) -> None:
    assert read(line) == [words]


def test_empty_lines_are_skipped_and_arrays_may_follow() -> None:
    assert read(b"\r\n  \r\nPING\r\n" + command(b"GET", b"k") + b"PING\n") == [
        [b"PING"],
        [b"GET", b"k"],
        [b"PING"],
    ]


@pytest.mark.parametrize("line", [b'a "b', b"a 'b", b'a "b"c', b"a 'b'c", b'a "b\\"', b'"\\'])
def test_quotes_must_be_closed(line: bytes) -> None:
    assert refused(line + b"\r\n") == "Protocol error: unbalanced quotes in request"


@pytest.mark.parametrize("line", [b"POST / HTTP/1.1\r\n", b"Host: localhost\r\n"])
def test_a_browser_is_not_obeyed(line: bytes) -> None:
    assert "HTTP" in refused(b"GET / HTTP/1.1\r\n" + line)


def test_a_line_has_a_limit() -> None:
    whole = b"x" * INLINE_BYTES_MAX
    assert read(whole + b"\n") == [[whole]]
    for pieces in ([whole + b"x"], [whole, b"x"], [whole + b"x\n"], [whole, b"x\n"]):
        assert refused(*pieces) == "Protocol error: too big inline request"


@given(st.lists(st.text('ab "x', max_size=6), min_size=1, max_size=4))
def test_words_in_quotes_are_as_they_stand(words: list[str]) -> None:
    line = " ".join(f"'{word}'" for word in words)

    assert read(line.encode() + b"\n") == [[word.encode() for word in words]]


# -- any stream, any cut --------------------------------------------------------------------------

NOISE = st.binary(max_size=30) | st.sampled_from(
    [b"*1\r\n", b"*2\r\n$1\r\nx\r\n", b"$4\r\nPING\r\n", b"*-1\r\n", b"PING\r\n", b'"', b"\r\n"]
)
STREAMS = st.lists(REQUESTS.map(lambda some: b"".join(command(*one) for one in some)) | NOISE).map(
    b"".join
)


@given(REQUESTS, st.data())
def test_what_was_written_is_read_however_it_is_cut(requests, draw) -> None:
    data = b"".join(command(*one) for one in requests)
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=6).map(sorted))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    assert read(*pieces) == requests


@pytest.mark.parametrize("limits", [SMALL, Limits()], ids=["small", "usual"])
@given(data=STREAMS, draw=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_cuts_anywhere_give_the_same_requests_and_errors(limits, data, draw) -> None:
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=6).map(sorted))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    singles = [data[at : at + 1] for at in range(min(len(data), 400))]

    assert outcome(pieces, limits) == outcome([data], limits)
    assert outcome(singles, limits) == outcome([data[:400]], limits)


@pytest.mark.parametrize(
    ("opening", "unit"),
    [
        pytest.param(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8000000\r\n", b"\r\n", id="a large value"),
        pytest.param(b"*120000\r\n", b"$0\r\n\r\n", id="many arguments"),
        pytest.param(b"", b"*0\r\n", id="empty arrays"),
        pytest.param(b"", b"\r\n", id="empty lines"),
        pytest.param(b"", b"'" * 100 + b"\n", id="quotes"),
        pytest.param(b"", command(b"SET", b"k", b"\r\n"), id="ends of lines in values"),
        pytest.param(b"x", b"x", id="a line without an end"),
    ],
)
def test_no_stream_takes_more_than_its_bounds(opening: bytes, unit: bytes) -> None:
    """A reader that started again with every piece would not come to the end of this."""
    limits = Limits()
    body = opening + unit * (600_000 // len(unit))
    reader = RespReader(limits)
    kept = 0
    for at in range(0, len(body), 100):
        try:
            reader.feed(body[at : at + 100])
        except RespError:
            break
        kept = max(kept, reader._size, len(reader._buffer))

    assert kept <= limits.document_bytes
