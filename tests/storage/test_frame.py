from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvlab.storage.frame import (
    FRAME_BYTES,
    HEADER_BYTES,
    Bad,
    Frame,
    Header,
    encode_frame,
    encode_header,
    parse_header,
    position_of,
    scan,
)

HEADER = Header(segment=7, identity=0xABCDEF, before=0, salt=99)
PAYLOADS = st.lists(st.binary(max_size=60), max_size=8)


def file_of(payloads: list[bytes], header: Header = HEADER) -> bytes:
    data = encode_header(header)
    for payload in payloads:
        data += encode_frame(header, len(data), position_of(7, len(data)), payload)
    return data


def found(data: bytes) -> list[bytes | tuple[int, int]]:
    return [
        one.payload if isinstance(one, Frame) else (one.offset, one.end)
        for one in scan(HEADER, data)
    ]


@given(PAYLOADS, st.integers(0, 100))
def test_what_was_written_is_read_and_reserved_room_is_not_bad(payloads, room):
    data = file_of(payloads)

    assert parse_header(data) == HEADER
    assert found(data + bytes(room)) == payloads


@given(PAYLOADS, st.data())
def test_a_cut_file_has_the_frames_before_the_cut_and_one_bad_place(payloads, draw):
    data = file_of(payloads)
    cut = draw.draw(st.integers(HEADER_BYTES, len(data)))

    *frames, last = [*scan(HEADER, data[:cut]), None]
    if frames and isinstance(frames[-1], Bad):
        last = frames.pop()

    assert [one.payload for one in frames] == payloads[: len(frames)]
    end = frames[-1].end if frames else HEADER_BYTES
    assert last in ([None] if end == cut else [Bad(end, cut), None])
    assert last is not None or not any(data[end:cut])


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=8), st.data())
def test_a_flipped_bit_costs_one_frame_and_no_other(payloads, draw):
    data = bytearray(file_of(payloads))
    bit = draw.draw(st.integers(HEADER_BYTES * 8, len(data) * 8 - 1))
    data[bit // 8] ^= 1 << bit % 8

    got = found(bytes(data))

    [bad] = [one for one in got if isinstance(one, tuple)]
    place = got.index(bad)
    assert got[:place] == payloads[:place]
    assert got[place + 1 :] == payloads[place + 1 :]
    assert bad[0] <= bit // 8 < bad[1]


@given(st.binary(max_size=200))
def test_rubbish_is_no_frame(rubbish):
    assert all(isinstance(one, Bad) for one in scan(HEADER, encode_header(HEADER) + rubbish))


@given(st.binary(max_size=100))
def test_rubbish_is_no_header(rubbish):
    assert parse_header(rubbish) is None


def test_a_value_that_looks_like_a_frame_is_none():
    # Who can store bytes must not be able to store records past the node.
    inner = encode_frame(HEADER, 0, 0, b"forged")
    data = bytearray(file_of([inner + b"x" * 50, b"after"]))
    data[HEADER_BYTES + 4] ^= 1  # the frame around it is damaged, so its inside is searched

    assert found(bytes(data))[1:] == [b"after"]


def test_a_frame_of_another_place_or_file_is_none():
    one = file_of([b"a"])[HEADER_BYTES:]

    assert found(encode_header(HEADER) + b"\1" + one) == [
        (HEADER_BYTES, len(one) + HEADER_BYTES + 1)
    ]
    other = Header(segment=7, identity=0xABCDEF, before=0, salt=98)
    assert found(encode_header(HEADER) + file_of([b"a"], other)[HEADER_BYTES:])[0] == (
        HEADER_BYTES,
        HEADER_BYTES + FRAME_BYTES + 1,
    )


def test_many_false_beginnings_do_not_take_for_ever():
    magic = encode_frame(HEADER, 0, 0, b"")[:4]
    evil = (magic + bytes(4) + (200_000).to_bytes(4, "little") + bytes(8)) * 20_000

    assert found(encode_header(HEADER) + evil) == [(HEADER_BYTES, HEADER_BYTES + len(evil))]
