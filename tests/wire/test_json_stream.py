"""Properties of the stream: cuts change nothing, nothing raises, and work stays linear."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlab.wire.json_lines import JsonReader, Refusal
from kvlab.wire.limits import Limits

SMALL = Limits(document_bytes=400, key_bytes=60, value_bytes=90, depth=5)
TEXT = st.text(max_size=12) | st.sampled_from(
    ['"', "\\", "}{", '"}', '"},', "\n", "é", "\U0001f600", "k" * 70]
)
NAMES = st.sampled_from(
    [
        *("type", "Type", "TYPE", "key", "Key", "kEY", "value", "Value", "r", "R"),
        *("req_id", "ReqId", "timestamp", "Timestamp", "meta", "level", "timeout_ms", "extra"),
    ]
)
VALUES = st.recursive(
    TEXT
    | st.sampled_from(["GET", "SET", "get", "DELETE", "", None, True, False])
    | st.integers(-3, 2000)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=6)
PLAIN = st.fixed_dictionaries({"type": st.sampled_from(["GET", "SET"]), "key": TEXT})
CAMEL = st.fixed_dictionaries({"Type": st.sampled_from(["GET", "SET"]), "Key": TEXT, "Value": TEXT})


@st.composite
def documents(draw) -> bytes:
    """One document in any of the ways in which programs write them."""
    value = draw(PLAIN | CAMEL | OBJECTS | VALUES)
    indent = draw(st.sampled_from([None, None, 1]))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=indent)
    space = draw(st.sampled_from(["\n", "\n", "", " ", "\r\n", "\n\n"]))
    return text.encode("utf-8", "surrogatepass") + space.encode()


STREAMS = st.lists(
    documents() | st.sampled_from([b"\xef\xbb\xbf", b'{"type":"GET","key":"\\ud800"}', b"{,}", b"["])
    | st.binary(max_size=4),
    max_size=6,
).map(b"".join)  # fmt: skip


def whole(data: bytes, limits: Limits = SMALL) -> list:
    return JsonReader(limits).feed(data)


@given(STREAMS, st.data())
@settings(max_examples=400)
def test_cuts_anywhere_give_the_same_messages(data, draw):
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=5).map(sorted))
    reader = JsonReader(SMALL)
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert [item for piece in pieces for item in reader.feed(piece)] == whole(data)


@given(STREAMS)
@settings(max_examples=200)
def test_one_byte_at_a_time_gives_the_same_messages(data):
    reader = JsonReader(SMALL)
    got = [item for byte in data for item in reader.feed(bytes([byte]))]
    assert got == whole(data)


@given(st.lists(st.binary(max_size=40) | documents(), max_size=8))
@settings(max_examples=400)
def test_no_bytes_make_the_reader_raise_and_a_closing_refusal_is_the_last_item(pieces):
    reader = JsonReader(SMALL)
    got = [item for piece in pieces for item in reader.feed(piece)]
    closing = [at for at, item in enumerate(got) if type(item) is Refusal and item.close]
    assert closing in ([], [len(got) - 1])
    assert reader.closed == bool(closing)


@given(st.lists(PLAIN | CAMEL | OBJECTS, max_size=6))
def test_uniform_is_told_exactly_when_all_are_requests_of_one_casing(values):
    reader = JsonReader(SMALL)
    got = reader.feed("\n".join(json.dumps(value) for value in values).encode() + b"\n")
    plain = all(type(item) is not Refusal for item in got)
    assert reader.uniform == (plain and len({item.camel for item in got}) <= 1)
    if got and reader.uniform:
        assert reader.camel is got[0].camel


def work_of(pieces, limits: Limits | None = None) -> tuple[JsonReader, int, int, list]:
    """Feed pieces until the reader closes: (reader, bytes fed, most bytes kept, items)."""
    reader = JsonReader(limits) if limits else JsonReader()
    fed = kept = 0
    items: list = []
    for piece in pieces:
        items += reader.feed(piece)
        fed += len(piece)
        kept = max(kept, reader.waiting_bytes)
        if reader.closed:
            break
    return reader, fed, kept, items


PIECE = 65536
LIMIT = 16 * 1024 * 1024


def pieces_of(unit: bytes, opening: bytes, total: int = 100 * 1024 * 1024):
    """A stream of about 100 MB in pieces of 64 KB: an opening, then one unit over and over."""
    body = unit * (PIECE // len(unit))
    yield opening
    for _ in range(total // PIECE):
        yield body


@pytest.mark.parametrize(
    ("opening", "unit"),
    [
        pytest.param(b'{"type":"SET","key":"', b"k", id="plain text"),
        pytest.param(b'{"type":"SET","key":"', b'\\"', id="escapes"),
        pytest.param(b'{"type":"SET","key":"k"', b" \n", id="blank lines inside"),
        pytest.param(b'{"type":"SET","x":1', b"0", id="a number"),
        pytest.param(b'{"type":"SET","x":"', b"}{\\n", id="braces in text"),
        pytest.param(b'{"type":"SET"', b',\n"x":"' + b"y" * 900 + b'"', id="pretty-printed"),
    ],
)
def test_a_line_of_100_mb_is_refused_at_the_limit_with_linear_work(opening, unit):
    reader, fed, kept, items = work_of(pieces_of(unit, opening))
    [refusal] = items
    assert (refusal.code, refusal.close) == ("TOO_LARGE", True)
    assert fed <= LIMIT + 2 * PIECE
    assert kept <= LIMIT + PIECE
    assert reader.waiting_bytes == 0
    assert reader.examined <= 3 * fed


@pytest.mark.parametrize(
    ("opening", "unit"),
    [
        pytest.param(b"", b"[", id="arrays"),
        pytest.param(b"", b'{"a":', id="objects"),
        pytest.param(b'{"type":"SET","key":', b'{"a":[', id="both"),
    ],
)
def test_deep_nesting_is_refused_at_its_place(opening, unit):
    reader, fed, kept, items = work_of(pieces_of(unit, opening))
    [refusal] = items
    assert (refusal.code, refusal.close) == ("BAD_REQUEST", True)
    assert fed <= 2 * PIECE
    assert kept <= PIECE
    assert reader.examined <= 3 * fed


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_document_in_tiny_pieces_costs_linear_work(size):
    value = rb"\"}\n{" * 400
    document = b'{\n"type":"SET",\n"x":[{"y":1.25}],\n"key":"k","value":"%b"}\n' % value * 3
    pieces = [document[at : at + size] for at in range(0, len(document), size)]
    reader, fed, kept, items = work_of(pieces)
    assert len(items) == 3
    assert kept <= len(document) // 3
    # Once scanned (a trailing backslash twice), then decoded strictly and by the slow path.
    assert reader.examined <= 6 * fed


def test_a_document_of_very_many_fields_is_not_built_in_memory():
    document = b'{"type":"GET"' + b"".join(b',"%06d":[[]]' % n for n in range(50_000)) + b"}"
    reader, _, _, items = work_of([document])
    [refusal] = items
    assert "fields" in refusal.error
    assert not refusal.close
    assert reader.examined <= 4 * len(document)


def test_pipelined_lines_cut_anywhere_are_decoded_once_or_twice():
    line = b'{"type":"SET","key":"key:000000000001","value":"%s"}\n' % (b"v" * 100)
    data = line * 4000
    pieces = [data[at : at + 5000] for at in range(0, len(data), 5000)]
    reader, fed, kept, items = work_of(pieces)
    assert len(items) == 4000
    assert kept < len(line)
    assert reader.examined <= 3 * fed
