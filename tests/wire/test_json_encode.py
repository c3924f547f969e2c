"""What the encoders write, read back by the client's reader, the standard library and eyes."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.wire.json_lines import (
    CamelReply,
    JsonReader,
    ProtocolError,
    Reply,
    ReplyReader,
    Request,
    as_camel,
    encode_fragments,
    encode_replies,
    encode_request,
    encode_success,
    fragment,
    reply_class,
    rfc3339,
)

NOW = "2026-11-23T15:05:37.609Z"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INFO = st.none() | st.dictionaries(TEXT, TEXT | st.integers(-5, 5) | st.booleans(), max_size=3)
REPLIES = st.builds(
    Reply,
    type=TEXT,
    key=TEXT,
    value=TEXT,
    timestamp=TEXT,
    status=TEXT,
    error=TEXT,
    code=TEXT,
    node=TEXT,
    version=TEXT,
    acks=st.integers(0, 9),
    degraded=st.booleans(),
    req_id=st.none() | TEXT | st.integers(-(2**63), 2**63 - 1),
    info=INFO,
)
SIX = ["type", "key", "value", "timestamp", "status", "error"]


def found(key: str, value: str) -> Reply:
    return Reply("RESPONSE", key, value, NOW, "SUCCESS", "")


def test_the_six_fields_are_always_written_in_order_and_extras_only_where_set():
    line = encode_replies([Reply("RESPONSE", "", "", NOW, "SUCCESS", "")])
    assert list(json.loads(line)) == SIX
    full = Reply(
        "RESPONSE", "k", "v", NOW, "ERROR", "no", "BUSY", "n1", "7", 2, True, "x", {"a": 1}
    )
    extras = ["code", "node", "version", "acks", "degraded", "req_id", "info"]
    assert list(json.loads(encode_replies([full]))) == SIX + extras
    camel = [name.title() for name in SIX + extras[:5]] + ["ReqId", "Info"]
    assert list(json.loads(encode_replies([full], camel=True))) == camel


def test_a_batch_may_mix_casings_by_the_class_of_each_reply():
    batch = [
        reply_class(camel)("RESPONSE", "k", "v", NOW, "SUCCESS", "") for camel in (True, False)
    ]
    first, second = encode_replies(batch).splitlines()
    assert first.startswith(b'{"Type":"RESPONSE","Key":"k"')
    assert second.startswith(b'{"type":"RESPONSE","key":"k"')


@given(st.lists(REPLIES, max_size=5), st.booleans(), st.data())
def test_replies_come_back_as_they_were_wherever_they_are_cut(replies, camel, draw):
    data = encode_replies(replies, camel)
    cut = draw.draw(st.integers(0, len(data)))
    reader = ReplyReader()
    got = reader.feed(data[:cut]) + reader.feed(data[cut:])
    assert got == [as_camel(reply) if camel else reply for reply in replies]


@given(st.lists(st.tuples(TEXT, TEXT), max_size=6), st.booleans())
def test_the_fast_encoders_write_the_same_bytes_as_the_general_one(pairs, camel):
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    want = encode_replies([found(*pair) for pair in pairs], camel)
    assert encode_success(keys, values, NOW, camel) == want
    assert encode_fragments([fragment(*pair, camel) for pair in pairs], NOW, camel) == want
    empty = encode_replies([found(key, "") for key in keys], camel)
    assert encode_success(keys, None, NOW, camel) == empty


@given(TEXT, st.none() | TEXT, st.integers(0, 5), st.none() | TEXT | st.integers(0, 9))
def test_a_request_comes_back_as_it_was(key, value, r, req_id):
    data = encode_request("SET", key, value, r=r, w=2, level="all", req_id=req_id, meta=True)
    assert data.endswith(b"\n")
    want = Request("SET", key, value, r=r, w=2, level="all", req_id=req_id, meta=True)
    assert JsonReader().feed(data) == [want]


def test_a_plain_request_is_compact():
    assert encode_request("GET", "k") == b'{"type":"GET","key":"k"}\n'
    assert encode_request("SET", "k", "") == b'{"type":"SET","key":"k","value":""}\n'


def test_replies_of_a_go_server_are_read():
    line = (
        b'{"Type":"RESPONSE","Key":"k","Value":"a\\u003cb","Timestamp":"2026-11-23T15:05:37.6Z",'
        b'"Status":"SUCCESS","Error":""}'
    )
    want = CamelReply("RESPONSE", "k", "a<b", "2026-11-23T15:05:37.6Z", "SUCCESS", "")
    for cut in range(len(line)):
        reader = ReplyReader()
        assert reader.feed(line[:cut]) + reader.feed(line[cut:]) == [want]


def test_replies_of_other_servers_may_miss_fields_and_have_others():
    reader = ReplyReader()
    line = (
        b'{"STATUS":"SUCCESS","value":null,"version":{"a":5},"latency":[1],"ACKS":2}{"type":"R"}\n'
    )
    first, second = reader.feed(line)
    assert first == Reply("", "", "", "", "SUCCESS", "", acks=2)
    assert second == Reply("R", "", "", "", "", "")


@pytest.mark.parametrize(
    "rubbish",
    [b"HTTP/1.1 400 Bad Request\r\n", b"-ERR unknown\r\n", b"[1]", b'{"value":5}', b"\xff", b"{]"],
)
def test_rubbish_from_a_server_raises_and_keeps_the_replies_before_it(rubbish):
    reader = ReplyReader()
    good = found("k", "v")
    with pytest.raises(ProtocolError, match="no reply") as caught:
        reader.feed(encode_replies([good]) + rubbish)
    assert caught.value.replies == [good]
    assert caught.value.code == "UNKNOWN"
    assert reader.closed
    assert reader.feed(encode_replies([good])) == []


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_only_protocol_errors_are_raised_for_what_a_server_sends(pieces):
    reader = ReplyReader()
    try:
        for piece in pieces:
            reader.feed(piece)
    except ProtocolError:
        assert reader.closed


@given(st.integers(0, 253_402_300_799_999_999))
def test_times_are_valid_rfc_3339_in_utc(now_us):
    text = rfc3339(now_us)
    moment = datetime.fromisoformat(text)
    assert text.endswith("Z")
    assert moment.tzinfo == UTC
    assert (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() == pytest.approx(
        now_us / 1e6, abs=0.00101
    )


def test_times_that_cannot_be_written_are_brought_to_the_nearest():
    assert rfc3339(-5) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(10**30) == "9999-12-31T23:59:59.999Z"
    assert rfc3339(1_795_446_337_609_949) == "2026-11-23T15:05:37.609Z"
