from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from kvlab.errors import SpecError
from kvlab.history import BUFFER_BYTES, Event, Recorder, decode_events, encode_events, load, pair

values = st.one_of(st.just(UNSET), st.none(), st.text(max_size=8))
events = st.builds(
    Event,
    t_us=st.integers(0, 10**9),
    client=st.sampled_from(["c1", "c2", "ç"]),
    op=st.integers(0, 9),
    type=st.sampled_from(["invoke", "ok", "fail", "info"]),
    f=st.sampled_from(["get", "set", "delete", "cas", "incr", "append"]),
    key=st.text(max_size=5),
    value=values,
    expected=values,
    node=st.sampled_from(["", "server1"]),
    intended_us=st.one_of(st.just(UNSET), st.integers(0, 99)),
    degraded=st.booleans(),
    error=st.sampled_from(["", "timeout"]),
    final=st.booleans(),
)


def line(kind: str, t_us: int = 1, *, client: str = "c1", op: int = 7, f: str = "set", **more):
    return {"t_us": t_us, "client": client, "op": op, "type": kind, "f": f, "key": "k", **more}


def data(*lines: dict[str, object]) -> bytes:
    return b"\n".join(msgspec.json.encode(one) for one in lines) + b"\n"


@given(st.lists(events, max_size=20))
def test_events_survive_the_way_through_lines(some):
    assert decode_events(encode_events(some)) == some


def test_a_line_is_what_the_contract_says():
    event = Event(t_us=1203, client="c1", op=7, type="invoke", f="set", key="k1", value="v1")
    assert encode_events([event]) == (
        b'{"i":0,"t_us":1203,"client":"c1","op":7,"type":"invoke","f":"set","key":"k1","value":"v1"}\n'
    )


def test_a_get_of_an_absent_key_writes_null_and_an_invocation_writes_no_value():
    done = Event(t_us=1, client="c", op=0, type="ok", f="get", key="k", value=None)
    begun = Event(t_us=1, client="c", op=0, type="invoke", f="get", key="k")
    assert b'"value":null' in encode_events([done])
    assert b'"value"' not in encode_events([begun])


def test_bad_lines_are_named_by_their_number_in_the_file():
    bad = data(line("invoke", value="a")) + b"\n{oops\n" + data(line("done", value="a"))
    with pytest.raises(SpecError) as caught:
        decode_events(bad, name="run.jsonl")
    first, second = caught.value.problems
    assert first.startswith("run.jsonl, line 3:")
    assert second.startswith("run.jsonl, line 4:")
    assert "done" in second


def test_unknown_fields_of_other_recorders_are_ignored():
    assert len(decode_events(data(line("invoke", value="a", colour="red")))) == 1


def test_a_missing_completion_is_info():
    (op,) = load(data(line("invoke", value="a"))).ops
    assert (op.outcome, op.end, op.end_us) == ("info", None, None)


def test_an_info_completion_has_a_time_but_no_end():
    (op,) = load(data(line("invoke", value="a"), line("info", 5, error="timeout"))).ops
    assert (op.outcome, op.end, op.end_us, op.error) == ("info", None, 5, "timeout")


def test_a_get_has_the_value_of_its_completion():
    (op,) = load(data(line("invoke", f="get"), line("ok", 2, f="get", value="v"))).ops
    assert (op.outcome, op.value, op.start, op.end) == ("ok", "v", 0, 1)


@pytest.mark.parametrize(
    ("told", "version"),
    [("244881229770768384", 244881229770768384), ("0", 0), ("", 0), ("v7", 0), ("-1", 0), ("²", 0)],
)
def test_a_version_is_the_number_that_the_completion_told(told, version):
    (op,) = load(data(line("invoke", value="a", version="9"), line("ok", 2, version=told))).ops
    assert op.version == version


def test_a_version_of_absurd_length_is_none():
    (op,) = load(data(line("invoke", value="a"), line("ok", 2, version="9" * 5000))).ops
    assert op.version == 0


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([line("ok", value="a")], "did not invoke"),
        ([line("invoke", value="a"), line("invoke", value="b")], "twice"),
        ([line("invoke", value="a"), line("ok"), line("ok")], "completed op 7 twice"),
        ([line("invoke", value="a"), line("ok", f="get", value="a")], "as set k"),
        ([line("invoke", 5, value="a"), line("ok", 4)], "before 5"),
        ([line("invoke")], "needs a value"),
        ([line("invoke", f="get"), line("ok", f="get")], "null for an absent key"),
    ],
)
def test_events_that_contradict_the_contract_are_refused(lines, complaint):
    with pytest.raises(SpecError) as caught:
        load(data(*lines))
    assert complaint in caught.value.problems[0]


def test_a_recorder_holds_no_more_than_its_buffer():
    blocks: list[bytes] = []
    recorder = Recorder(blocks.append)
    for n in range(3000):
        recorder.add(Event(t_us=n, client="c", op=n, type="invoke", f="get", key="k"))
    assert blocks
    assert all(len(block) < BUFFER_BYTES + 1000 for block in blocks)
    recorder.flush()
    assert len(pair(decode_events(b"".join(blocks))).ops) == 3000
