"""Dialogues with the reader of requests: what a client sends, what the node is told."""

from __future__ import annotations

import json

import pytest

from kvlab.wire.json_lines import CamelRequest, JsonReader, Refusal, Request
from kvlab.wire.limits import Limits


def read(*pieces: bytes, limits: Limits | None = None) -> list[Request | Refusal]:
    reader = JsonReader(limits) if limits else JsonReader()
    return [item for piece in pieces for item in reader.feed(piece)]


def refused(*pieces: bytes, limits: Limits | None = None) -> Refusal:
    [item] = read(*pieces, limits=limits)
    assert isinstance(item, Refusal)
    return item


def test_a_batch_of_lines_gives_its_requests_in_order():
    reader = JsonReader()
    got = reader.feed(b'{"type":"SET","key":"k","value":"v"}\n{"type":"GET","key":"k"}\n')
    assert got == [Request("SET", "k", "v"), Request("GET", "k")]
    assert reader.uniform
    assert not reader.camel


def test_the_message_of_a_go_client_gives_a_camel_request():
    reader = JsonReader()
    line = (
        b'{"Type":"SET","Key":"k","Value":"a\\u003cb\\u003e\\u0026",'
        b'"Timestamp":"2026-11-23T15:05:37.609949458Z","Status":"","Error":""}\n'
    )
    [request] = reader.feed(line)
    assert request == CamelRequest("SET", "k", "a<b>&", "2026-11-23T15:05:37.609949458Z", "", "")
    assert request.camel
    assert reader.camel
    assert reader.uniform


def test_casings_may_mix_in_one_batch():
    reader = JsonReader()
    got = reader.feed(b'{"Type":"GET","Key":"a"}\n{"type":"GET","key":"b"}\n{"Type":"GET"}\n')
    assert got == [CamelRequest("GET", "a"), Request("GET", "b"), CamelRequest("GET")]
    assert not reader.uniform
    assert reader.feed(b'{"type":"GET"}\n') == [Request("GET")]
    assert reader.uniform
    assert not reader.camel


def test_a_plain_request_of_the_other_casing_is_not_taken_for_one_of_this():
    reader = JsonReader()
    camel, lower = b'{"Type":"GET","Key":"a"}\n', b'{"type":"GET","key":"a"}\n'
    for first, second in ((camel, lower), (lower, camel)):
        reader.feed(first)
        [request] = reader.plain(first)
        assert (request.type, request.key, request.camel) == ("GET", "a", first is camel)
        assert reader.plain(second) is None


@pytest.mark.parametrize("names", [("TYPE", "KEY", "VALUE"), ("tYpE", "kEy", "value")])
def test_field_names_are_accepted_in_any_case_and_answered_in_lower_case(names):
    document = json.dumps(dict(zip(names, ("SET", "k", "v"), strict=True)))
    assert read(document.encode()) == [Request("SET", "k", "v")]


def test_a_camel_type_decides_although_other_names_are_lower():
    assert read(b'{"key":"k","Type":"GET"}') == [CamelRequest("GET", "k")]
    assert read(b'{"Key":"k","type":"GET"}') == [Request("GET", "k")]


def test_verbs_are_folded_to_upper_case_and_unknown_verbs_are_let_through():
    got = read(b'{"type":"get"}{"type":"Frobnicate"}{"type":""}')
    assert got == [Request("GET"), Request("FROBNICATE"), Request("")]


def test_all_extras_are_read():
    line = (
        b'{"type":"GET","key":"k","ns":"eventual","r":2,"w":3,"level":"quorum","timeout_ms":50,'
        b'"req_id":"x","meta":true}\n'
    )
    want = Request(
        "GET", "k", ns="eventual", r=2, w=3, level="quorum", timeout_ms=50, req_id="x", meta=True
    )
    assert read(line) == [want]
    assert read(line.replace(b'"req_id"', b'"Req_Id"')) == [want]


def test_camel_extras_are_read_with_and_without_underscores():
    want = CamelRequest("GET", timeout_ms=5, req_id=7)
    assert read(b'{"Type":"GET","TimeoutMs":5,"ReqId":7}\n') == [want]
    assert read(b'{"Type":"GET","Timeout_Ms":5,"Req_Id":7}\n') == [want]


def test_null_and_missing_keys_are_none_and_empty_keys_are_empty():
    got = read(b'{"type":"GET","key":null,"value":null}\n{"type":"GET"}\n{"type":"GET","key":""}\n')
    assert [(item.key, item.value) for item in got] == [(None, None), (None, None), ("", None)]


def test_null_extras_mean_default():
    assert read(b'{"type":"GET","r":null,"ns":null,"meta":null,"req_id":null}') == [Request("GET")]


@pytest.mark.parametrize("value", ['""', "null", '"yesterday"', '"2026-11-23T15:05:37Z"'])
def test_any_text_is_tolerated_as_timestamp_status_and_error(value):
    document = f'{{"type":"GET","timestamp":{value},"status":{value},"error":{value}}}\n'
    [item] = read(document.encode())
    assert isinstance(item, Request)


def test_unknown_fields_are_ignored_whatever_they_hold():
    document = b'{"x":[1,{"y":[[]]}],"type":"GET","key":"k","z":{},"big":1e999,"t":[true,null]}'
    assert read(document) == [Request("GET", "k")]


def test_documents_need_no_newline():
    assert read(b'{"type":"GET","key":"a"}') == [Request("GET", "a")]
    assert read(b'{"type":"GET"}{"type":"SET"}') == [Request("GET"), Request("SET")]


def test_documents_may_be_spread_over_lines_with_blank_lines_and_a_byte_order_mark():
    text = b'\xef\xbb\xbf\r\n\r\n{\r\n  "type" : "GET",\r\n  "key" :\n"k"\r\n}\r\n\n{"type":"SET"}'
    for cut in range(len(text)):
        assert read(text[:cut], text[cut:]) == [Request("GET", "k"), Request("SET")]


def test_a_request_is_given_as_soon_as_its_last_brace_is_there():
    reader = JsonReader()
    assert reader.feed(b'{"type":"GET","key":"}\\"{') == []
    assert reader.feed(b'"') == []
    assert reader.feed(b'}{"ty') == [Request("GET", '}"{')]
    assert reader.waiting_bytes == 4


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b'{"type":5}', ['"type"', "a string", "5"]),
        (b'{"Type":"GET","Key":5}', ['"Key"', "a string", "5"]),
        (b'{"type":"SET","key":"k","value":{"a":1}}', ['"value"', "a string", "an object"]),
        (b'{"type":"SET","value":[1]}', ['"value"', "an array"]),
        (b'{"type":"GET","timestamp":5}', ['"timestamp"', "a string"]),
        (b'{"type":"GET","r":-1}', ['"r"', "a whole number from 0 to 1024", "-1"]),
        (b'{"type":"GET","w":2.5}', ['"w"', "2.5"]),
        (b'{"type":"GET","w":"2"}', ['"w"', "this string"]),
        (b'{"type":"GET","timeout_ms":true}', ['"timeout_ms"', "milliseconds", "true"]),
        (b'{"type":"GET","meta":1}', ['"meta"', "true or false"]),
        (b'{"type":"GET","req_id":1.5}', ['"req_id"', "64 bits"]),
        (b'{"type":"GET","req_id":99999999999999999999}', ['"req_id"', "64 bits"]),
        (b'{"key":"k"}', ['"type" is missing', "JSON object"]),
        (b'{"type":null}', ['"type" is missing']),
        (b"{}", ['"type" is missing']),
        (b'{"Key":"k"}', ['"Type" is missing']),
        (b"[1,2]", ["one JSON object"]),
        (b'"GET k"', ["one JSON object"]),
        (b"12 ", ["one JSON object"]),
        (b"null\n", ["one JSON object"]),
        (b'{"type":"GET","key":"\\ud800"}', ["other half"]),
        (b'{"type":"GET","key":"\\udc00\\ud800"}', ["other half"]),
    ],
)
def test_a_wrong_shape_is_refused_in_a_sentence_and_the_connection_goes_on(document, words):
    got = read(b'{"type":"GET","key":"a"}\n' + document + b'{"type":"GET","key":"b"}\n')
    assert [got[0].type, got[-1].type] == ["GET", "GET"]
    [refusal] = got[1:-1]
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.close) == ("BAD_REQUEST", False)
    assert all(word in refusal.error for word in words), refusal.error


def test_a_refusal_mirrors_casing_and_request_id():
    refusal = refused(b'{"Type":5,"ReqId":"x"}')
    assert (refusal.camel, refusal.req_id) == (True, "x")
    refusal = refused(b'{"type":"GET","req_id":9,"key":"\\ud800"}')
    assert (refusal.camel, refusal.req_id) == (False, 9)


def test_paired_surrogates_and_backslashes_before_u_are_text():
    got = read(b'{"type":"GET","key":"\\ud83d\\ude00"}{"type":"GET","key":"\\\\ud800"}')
    assert got == [Request("GET", "\U0001f600"), Request("GET", "\\ud800")]


@pytest.mark.parametrize(
    "rubbish",
    [
        b"hello",
        b"}",
        b'{"type":"GET",}',
        b'{"type" "GET"}',
        b'{"type":"GET"\n{"type":"GET"}',
        b'{"type":"GET","key":"never closed\n',
        b'{"type":"GET","key":"\xff"}',
        b'{"type":"GET","key":"\xed\xa0\x80"}',
        b'{"type":"GET","other":"\xff"}',
        b'{"type":"GET","key":"\\q"}',
        b'{"type":"GET","key":"\x01"}',
        b'{"type":"GET","r":01}',
        b'{"type":"GET","x":tru}',
        b'{"type":"GET","key":"\\ud800","x":tru}',
        b"{]",
        b"\x00",
    ],
)
def test_rubbish_is_refused_once_and_nothing_after_it_is_read(rubbish):
    reader = JsonReader()
    got = reader.feed(b'{"type":"GET","key":"a"}\n' + rubbish + b'\n{"type":"GET","key":"b"}\n')
    assert got[0] == Request("GET", "a")
    [refusal] = got[1:]
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.close) == ("BAD_REQUEST", True)
    assert reader.closed
    assert not reader.uniform
    assert reader.feed(b'{"type":"GET"}\n') == []
    assert reader.waiting_bytes == 0


def test_nesting_up_to_the_limit_is_read_and_one_more_is_refused():
    deep = b'{"type":"GET","x":' + b"[" * 31 + b"]" * 31 + b"}"
    assert read(deep) == [Request("GET")]
    refusal = refused(b'{"type":"GET","x":' + b"[" * 32)
    assert (refusal.code, refusal.close) == ("BAD_REQUEST", True)
    assert "deeper than 32" in refusal.error


@pytest.mark.parametrize("character", ["a", "é", "\U0001f600"])
def test_keys_and_values_are_limited_in_utf8_bytes_and_the_connection_goes_on(character):
    limits = Limits(key_bytes=40, value_bytes=80)
    width = len(character.encode())
    fits = f'{{"type":"SET","key":"{character * (40 // width)}","value":"{character * (80 // width)}"}}'
    long_key = f'{{"Type":"SET","Key":"{character * (40 // width + 1)}","ReqId":3}}\n'
    long_value = f'{{"type":"SET","key":"k","value":"{character * (80 // width + 1)}"}}'
    got = read((fits + long_key + long_value).encode(), b'{"type":"GET"}', limits=limits)
    assert [type(item) for item in got] == [Request, Refusal, Refusal, Request]
    _, key, value, _ = got
    assert (key.code, key.close, key.camel, key.req_id) == ("TOO_LARGE", False, True, 3)
    assert "key has" in key.error
    assert "limit is 40" in key.error
    assert (value.code, value.close) == ("TOO_LARGE", False)
    assert "value has" in value.error


def test_the_real_limits_hold_at_their_edges():
    key = b"k" * 65536
    assert read(b'{"type":"GET","key":"%b"}\n' % key) == [Request("GET", key.decode())]
    assert refused(b'{"type":"GET","key":"%bk"}\n' % key).code == "TOO_LARGE"
    value = b"v" * 8 * 1024 * 1024
    [item] = read(b'{"type":"SET","key":"k","value":"%b"}\n' % value)
    assert isinstance(item, Request)
    assert len(item.value) == len(value)
    assert refused(b'{"type":"SET","key":"k","value":"%bv"}\n' % value).code == "TOO_LARGE"


def test_a_document_over_the_limit_closes_as_soon_as_the_limit_is_passed():
    limits = Limits(document_bytes=100)
    reader = JsonReader(limits)
    assert reader.feed(b'{"type":"SET","key":"' + b"k" * 79) == []
    [refusal] = reader.feed(b"k")
    assert (refusal.code, refusal.close) == ("TOO_LARGE", True)
    exact = b'{"type":"GET","key":"' + b"k" * 77 + b'"}'
    assert len(exact) == 100
    assert read(exact, limits=limits) == [Request("GET", "k" * 77)]


def test_a_whole_document_over_the_limit_is_refused_like_one_in_pieces():
    limits = Limits(document_bytes=100)
    over = b'{"type":"GET","key":"' + b"k" * 78 + b'"}\n{"type":"GET"}\n'
    want = Refusal("TOO_LARGE", "the document is larger than 100 bytes", close=True)
    assert read(over, limits=limits) == [want]
    assert read(*(bytes([byte]) for byte in over), limits=limits) == [want]


def test_quotes_and_braces_in_text_end_nothing_on_the_slow_path_either():
    text = b'{"type":"get","key":"a\\"}","value":"\\\\"}'
    for cut in range(len(text)):
        assert read(text[:cut], text[cut:]) == [Request("GET", 'a"}', "\\")]


def test_too_many_fields_are_refused_and_the_connection_goes_on():
    fields = ",".join(f'"x{number}":0' for number in range(70))
    got = read(b'{"type":"GET",' + fields.encode() + b'}{"type":"GET"}')
    assert isinstance(got[0], Refusal)
    assert "at most 64 fields" in got[0].error
    assert got[1:] == [Request("GET")]
