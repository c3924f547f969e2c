from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.errors import DefiniteError, UncertainError, UsageError
from kvlab.live.client_messages import (
    deleted_of,
    encode,
    info_of,
    make_request,
    make_requests,
    raise_error,
    value_of,
)
from kvlab.live.client_rules import (
    BUSY,
    TIMEOUT,
    UNAVAILABLE,
    Address,
    Limits,
    LinkError,
    Route,
    failure,
    is_missing,
    parse_address,
    parse_addresses,
    refusal,
    worth_repeating,
)
from kvlab.rng import Rng
from kvlab.wire.json_lines import JsonReader, Reply

A, B, C = Address("a", 1), Address("b", 2), Address("c", 3)
CODES = ["", "NOT_FOUND", "UNAVAILABLE", "TIMEOUT", "UNKNOWN", "BUSY", "TOO_LARGE", "WRONG_MODE"]


def reply(status: str = "SUCCESS", **fields: object) -> Reply:
    six = {"type": "RESPONSE", "key": "k", "value": "", "timestamp": "", "status": status}
    return Reply(**(six | {"error": ""} | fields))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:8081", Address("localhost", 8081)),
        (":8081", Address("localhost", 8081)),
        ("[::1]:80", Address("::1", 80)),
        (("10.0.0.1", 65535), Address("10.0.0.1", 65535)),
        (("::1", 7), Address("::1", 7)),
        (" host:1 ", Address("host", 1)),
    ],
)
def test_an_address_is_read_and_written(text, address):
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize("text", ["", "host", "host:", "host:0", "host:65536", "host:x", "::1:80"])
def test_a_bad_address_says_what_to_write(text):
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert "host:port" in caught.value.hint


def test_addresses_may_be_one_or_several_without_repeats():
    assert parse_addresses("a:1") == (A,)
    assert parse_addresses(("a", 1)) == (A,)
    assert parse_addresses(("a:1", "b:2", "a:1")) == (A, B)
    assert parse_addresses([("a", 1), B]) == (A, B)
    with pytest.raises(UsageError):
        parse_addresses([])


def test_the_address_that_works_stays_preferred():
    route = Route([A, B, C])
    assert route.order() == (A, B, C)
    route.failed(A, 0.0, "refuses")
    assert route.order()[0] == B
    route.worked(B)
    assert route.order() == (B, C, A)
    route.move_on(A)  # not the preferred one: nothing changes
    assert route.order()[0] == B


def test_an_address_that_fails_rests_twice_as_long_each_time_up_to_the_limit():
    route = Route([A], first_s=0.05, most_s=0.3)
    waits = []
    for _ in range(5):
        route.failed(A, 10.0, "refuses")
        waits.append(route.wait_s(10.0))
    assert waits == pytest.approx([0.05, 0.1, 0.2, 0.3, 0.3])
    assert route.due(10.0) == []
    assert route.due(10.3) == [A]
    route.worked(A)
    assert route.due(10.0) == [A]


def test_failing_for_ever_does_not_overflow():
    route = Route([A])
    for _ in range(5000):
        route.failed(A, 0.0, "refuses")
    assert route.wait_s(0.0) == 1.0


def test_jitter_shortens_a_wait_by_half_at_most_and_repeats_with_the_seed():
    def waits(rng: Rng | None) -> list[float]:
        found = []
        for _ in range(20):
            route = Route([A], rng=rng)
            route.failed(A, 0.0, "refuses")
            found.append(route.wait_s(0.0))
        return found

    jittered = waits(Rng(7))
    assert jittered == waits(Rng(7))
    assert len(set(jittered)) > 10
    assert all(0.025 <= one <= 0.05 for one in jittered)
    assert set(waits(None)) == {0.05}


def test_nobody_names_every_address_and_its_reason():
    route = Route([A, B])
    route.failed(A, 0.0, "refuses connections")
    error = route.nobody()
    assert "a:1 refuses connections" in error.message
    assert "b:2 was not tried" in error.message
    assert "kvlab up" in error.hint


@pytest.mark.parametrize(
    "limits", [{"timeout_s": 0}, {"pipeline_max": 0}, {"connect_timeout_s": -1.0}, {"lost_max": 0}]
)
def test_a_limit_that_allows_nothing_is_refused(limits):
    with pytest.raises(UsageError):
        Limits(**limits)


@given(pipeline=st.integers(1, 10_000), lost=st.integers(1, 10_000))
def test_lost_requests_never_fill_the_pipeline(pipeline, lost):
    limit = Limits(pipeline_max=pipeline, lost_max=lost).lost_limit
    assert 1 <= limit <= max(1, pipeline // 2)
    assert limit <= lost


@given(
    kind=st.sampled_from(["GET", "get", "PING", "STATUS", "SET", "DELETE", "JOIN", "LEAVE", "X"]),
    sent=st.booleans(),
    code=st.sampled_from([TIMEOUT, UNAVAILABLE, BUSY]),
)
def test_no_reply_is_uncertain_exactly_when_a_write_was_sent(kind, sent, code):
    error = failure(kind, "k", "because", sent=sent, code=code)
    reads = kind.upper() in ("GET", "PING", "STATUS")
    assert isinstance(error, UncertainError) == (sent and not reads)
    assert isinstance(error, UncertainError) == (error.code == "UNKNOWN")
    assert "because" in error.message


@given(code=st.sampled_from(CODES), kind=st.sampled_from(["GET", "SET", "DELETE"]))
def test_an_error_reply_is_uncertain_exactly_for_unknown_writes(code, kind):
    error = refusal(kind, "k", "text", code)
    assert isinstance(error, UncertainError) == (code == "UNKNOWN" and kind != "GET")
    assert isinstance(error, UncertainError | DefiniteError)
    assert isinstance(error, UncertainError) == (error.code == "UNKNOWN")


def test_a_missing_key_is_known_by_code_or_by_the_text_of_a_foreign_server():
    assert is_missing("whatever", "NOT_FOUND")
    assert is_missing("Key does not exist", "")
    assert not is_missing("Key does not exist", "UNAVAILABLE")
    assert not is_missing("", "")


def test_replies_become_values():
    missing = reply("ERROR", error="Key does not exist", code="NOT_FOUND")
    assert value_of(reply(value="v"), "k") == "v"
    assert value_of(reply("success", value=""), "k") == ""
    assert value_of(missing, "k") is None
    assert deleted_of(reply(), "k") is True
    assert deleted_of(missing, "k") is False
    assert info_of(reply(info={"id": "x"}), "PING") == {"id": "x"}
    assert info_of(reply(), "PING") == {}
    with pytest.raises(DefiniteError):
        raise_error(missing, "SET", "k")


@pytest.mark.parametrize("status", ["", "OK", "MAYBE"])
def test_a_document_of_another_protocol_proves_nothing(status):
    with pytest.raises(UncertainError):
        raise_error(reply(status), "SET", "k")
    with pytest.raises(DefiniteError) as caught:
        value_of(reply(status), "k")
    assert caught.value.code == "BAD_REPLY"


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("repeat", [True, False])
@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("code", [TIMEOUT, UNAVAILABLE, BUSY])
def test_a_write_that_was_sent_is_never_repeated(sent, repeat, several, code):
    error = LinkError("why", sent=sent, code=code)
    again = worth_repeating(error, repeat=repeat, several=several)
    if sent and not repeat:
        assert not again
    if code == BUSY or (code == TIMEOUT and not several):
        assert not again
    if code == UNAVAILABLE and (repeat or not sent):
        assert again


@given(
    kind=st.sampled_from(["GET", "set", "Delete", "STATUS"]),
    key=st.text(max_size=20),
    value=st.text(max_size=20),
    level=st.sampled_from([None, "quorum"]),
    r=st.integers(0, 5),
)
def test_a_server_reads_what_was_asked(kind, key, value, level, r):
    (item,) = JsonReader().feed(encode([make_request(kind, key, value, {"level": level, "r": r})]))
    assert (item.type, item.key, item.r) == (kind.upper(), key, r)
    assert (item.value or "") == value
    assert item.level == (level or "")


def test_a_value_is_always_sent_with_set():
    assert b'"value":""' in encode([make_request("SET", "k", "")])


def test_wrong_arguments_are_usage_errors():
    with pytest.raises(UsageError, match="no field 'lvl'"):
        make_request("GET", "k", "", {"lvl": 1})
    with pytest.raises(UsageError, match="the value must be a text"):
        make_request("SET", "k", 5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not text"):
        encode([make_request("SET", "k", "\ud800")])


def test_defaults_go_with_requests_given_as_tuples():
    ready = make_request("GET", "a")
    made = make_requests([ready, ("SET", "b", "1"), ("GET", "c")], {"level": "all"})
    assert [(one.type, one.key, one.value, one.level) for one in made] == [
        ("GET", "a", None, ""),
        ("SET", "b", "1", "all"),
        ("GET", "c", None, "all"),
    ]
