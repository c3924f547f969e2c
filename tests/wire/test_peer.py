from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.wire.peer import (
    FRAME_BYTES_MAX,
    HELLO,
    HELLO_BYTES_MAX,
    MAGIC,
    REFUSE,
    TURN,
    FrameError,
    FrameReader,
    Handshake,
    Hello,
    Refuse,
    encode_frame,
    encode_raw,
    parse_handshake,
    parse_turn,
    records_of,
)
from kvlab.wire.sniff import PEER_MAGIC

# All that msgpack can say, and that another program may therefore send.
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=12,
)
encode = msgspec.msgpack.Encoder().encode
HELLO_EXAMPLE = Hello(HELLO, "kvlab", "server1", 5, 0, 256, "server2", 0, "localhost:8081")


def _split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 400)))
def test_frames_come_out_the_same_wherever_the_stream_is_cut(bodies, cuts):
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    reader = FrameReader()

    assert [body for piece in _split(stream, cuts) for body in reader.feed(piece)] == bodies


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_rubbish_on_a_link_is_a_frame_error_or_waits_for_more(pieces):
    reader = FrameReader()
    try:
        for piece in pieces:
            for body in reader.feed(piece):
                parse_turn(body)
    except FrameError:
        pass


def test_a_length_beyond_the_limit_is_refused_before_its_bytes_come():
    with pytest.raises(FrameError, match="the limit is"):
        FrameReader().feed((FRAME_BYTES_MAX + 1).to_bytes(4, "big"))


def test_a_length_beyond_the_limit_is_refused_when_it_comes_byte_by_byte():
    reader = FrameReader()
    for byte in (FRAME_BYTES_MAX + 1).to_bytes(4, "big")[:3]:
        assert reader.feed(bytes([byte])) == []

    with pytest.raises(FrameError):
        reader.feed((FRAME_BYTES_MAX + 1).to_bytes(4, "big")[3:])


def test_before_the_handshake_a_stranger_may_send_little():
    length = (HELLO_BYTES_MAX + 1).to_bytes(4, "big")
    with pytest.raises(FrameError, match="the limit is"):
        FrameReader(strange=1).feed(length + b"x")
    reader = FrameReader(strange=1)
    assert reader.feed(length[:2]) == []
    with pytest.raises(FrameError, match="the limit is"):
        reader.feed(length[2:])


def test_after_the_handshake_frames_may_be_large_also_in_the_same_read():
    large = bytes(HELLO_BYTES_MAX * 3)
    stream = encode_frame(HELLO_EXAMPLE) + encode_frame(large)

    for cut in (1, 4, 40, len(stream) - 1, len(stream)):
        reader = FrameReader(strange=1)
        got = reader.feed(stream[:cut]) + reader.feed(stream[cut:])
        assert got == [encode(HELLO_EXAMPLE), encode(large)]


def test_the_bound_of_strangers_holds_for_as_many_frames_as_it_was_told():
    large = encode_frame(bytes(HELLO_BYTES_MAX * 3))
    small = encode_frame(b"x")

    assert len(FrameReader(strange=3).feed(small * 3 + large)) == 4
    for before in range(3):
        with pytest.raises(FrameError, match="the limit is"):
            FrameReader(strange=3).feed(small * before + large)


def test_a_large_frame_in_small_pieces_is_looked_at_once():
    body = bytes(4 * 1024 * 1024)
    stream = len(body).to_bytes(4, "big") + body
    reader = FrameReader()
    for at in range(0, len(body), 4096):
        assert reader.feed(stream[at : at + 4096]) == []
        assert reader._need == len(stream)  # until then a piece is appended and no more

    assert reader.feed(stream[len(body) :]) == [body]


@given(st.binary(max_size=60) | values.map(encode))
def test_a_handshake_is_one_or_a_frame_error(body):
    try:
        said = parse_handshake(body)
    except FrameError:
        return
    assert isinstance(said, Handshake)


def test_a_handshake_comes_back_as_it_was():
    refuse = Refuse(REFUSE, "cluster", "this is another cluster")

    assert parse_handshake(encode(HELLO_EXAMPLE)) == HELLO_EXAMPLE
    assert parse_handshake(encode(refuse)) == refuse


@pytest.mark.parametrize(
    "change",
    [
        {"node": ""},
        {"node": "n" * 65},
        {"boot": 0},
        {"boot": -1},
        {"epoch": -1},
        {"address": "a" * 300},
        {"address": "nowhere"},
        {"cluster": "c" * 300},
        {"known_boot": "1"},
    ],
    ids=str,
)
def test_a_handshake_that_no_node_would_send_is_refused(change):
    body = encode([*(getattr(HELLO_EXAMPLE, f) if f not in change else change[f] for f in FIELDS)])

    with pytest.raises(FrameError):
        parse_handshake(body)


FIELDS = [field.name for field in msgspec.structs.fields(Hello)]


@given(st.binary(max_size=60) | values.map(encode))
def test_a_turn_is_one_or_a_frame_error(body):
    try:
        frame = parse_turn(body)
    except FrameError:
        return
    assert [type(part) for part in frame] == [int, int, int, list, int, list, list]


@given(st.tuples(st.just(TURN), values, values, values, values, values, values).map(list))
def test_whatever_a_turn_holds_it_is_one_or_a_frame_error(frame):
    try:
        got = parse_turn(encode(frame))
    except FrameError:
        return
    assert [type(part) for part in got] == [int, int, int, list, int, list, list]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000 + b"\xc0",  # deeper than the decoder goes
        b"\x97\x03\x01\x01\x90\x00\x90\x91" + b"\x91" * 100_000,
        b"\xa1\xff",  # text that is not UTF-8
        b"\xdd\xff\xff\xff\xff",  # an array of four milliards, and no items
        b"\xdf\xff\xff\xff\xff",
        b"\xd7\xff" + b"\xff" * 8,  # a moment out of range
        encode([TURN, 1, 2, [], 0, [], []]) + b"\x00",
        encode([TURN, 1, 2, [], 0, []]),
        encode([HELLO, 1, 2, [], 0, [], []]),
        encode([TURN, "1", 2, [], 0, [], []]),
        encode([TURN, True, 2, [], 0, [], []]),
        encode([TURN, -1, 2, [], 0, [], []]),
        encode([TURN, 1, None, [], 0, [], []]),
        encode([TURN, 1, 2, [], 0.5, [], []]),
        encode([TURN, 1, 2, {}, 0, [], []]),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_malformed_frame_is_a_frame_error(body):
    with pytest.raises(FrameError):
        parse_turn(body)
    with pytest.raises(FrameError):
        parse_handshake(body)


def test_a_raw_part_is_the_same_as_a_part_encoded_in_place():
    group = [7, [b"k", 1, "v", b"l", 2, None]]

    assert encode_frame([TURN, 1, 2, [encode_raw(group)], 0, [], []]) == encode_frame(
        [TURN, 1, 2, [group], 0, [], []]
    )


good_records = st.lists(
    st.tuples(
        st.binary(max_size=5),
        st.integers(0, 2**63 - 1),
        st.none() | st.text(max_size=5) | st.binary(max_size=5),
    ),
    max_size=5,
)


@given(good_records)
def test_records_are_cut_from_their_flat_list(records):
    assert list(records_of([part for record in records for part in record])) == records


@given(good_records, values, st.integers(0, 20))
def test_records_of_other_types_are_frame_errors(records, odd, place):
    flat = [part for record in records for part in record]
    flat.insert(place, odd)  # the number of parts is wrong at least
    with pytest.raises(FrameError):
        list(records_of(flat))


@pytest.mark.parametrize(
    "record",
    [
        ["k", 1, "v"],
        [b"k", "1", "v"],
        [b"k", True, "v"],
        [b"k", 1.0, "v"],
        [b"k", -1, "v"],
        [b"k", 2**63, "v"],
        [b"k", 1, True],
        [b"k", 1, 5],
        [b"k", 1, ["v"]],
        [b"k", 1, {"v": 1}],
    ],
    ids=repr,
)
def test_a_record_of_other_types_is_a_frame_error(record):
    with pytest.raises(FrameError):
        list(records_of(record))


def test_the_magic_is_the_one_that_a_port_listens_for():
    assert MAGIC == PEER_MAGIC
