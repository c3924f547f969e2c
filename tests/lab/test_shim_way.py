"""One way through the shim, driven without sockets: what goes in comes out, in order, when it may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.fault.link import CLEAN, LinkRule
from kvlab.lab import shim_way
from kvlab.lab.shim_way import Link, Mark, Room, Way
from kvlab.rng import Rng

LIMIT = 100


class Socket:
    """Records what is written; stands for a transport on either side."""

    def __init__(self):
        self.written = b""
        self.ended = False
        self.reading = True

    def write(self, data):
        assert not self.ended
        self.written += data

    def write_eof(self):
        self.ended = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


class Bench:
    """A way between two recorded sockets, with the clock in the hand of the test."""

    def __init__(self, monkeypatch=None):
        self.now = 1_000_000
        self.alarms: list[int] = []
        self.broken = 0
        self.link = Link("a", "b", Rng(1))
        room = Room(lambda _, at_us: self.alarms.append(at_us), way_max=LIMIT, total_max=10 * LIMIT)
        self.way = Way(self, self.link, room)
        self.source, self.sink = Socket(), Socket()
        self.way.source = self.source
        self.way.open(self.sink)

    def break_off(self, link):
        self.broken += 1
        self.way.kill()

    def way_ended(self):
        pass

    def rule(self, rule: LinkRule):
        was_cut = self.link.cut
        self.link.set_rule(rule)
        self.way.refresh(was_cut=was_cut)

    def send(self, data: bytes):
        if self.way.plain:
            self.link.bytes += len(data)
            self.sink.write(data)
        else:
            self.way.feed(data)

    def at(self, now: int):
        self.now = now
        self.way.wake_us = 0
        self.way.drain(now)


@pytest.fixture
def bench(monkeypatch):
    made = Bench()
    monkeypatch.setattr(shim_way, "now_us", lambda: made.now)
    return made


def test_without_a_rule_the_fast_path_is_open(bench):
    assert bench.way.plain
    bench.rule(LinkRule(connect="hang"))
    assert bench.way.plain


def test_what_is_held_comes_out_in_order_on_heal(bench):
    bench.send(b"one")
    bench.rule(LinkRule(cut=True))
    bench.send(b"two")
    bench.send(b"three")
    assert bench.sink.written == b"one"
    assert (bench.link.held_bytes, bench.link.queued_bytes) == (8, 8)
    bench.rule(CLEAN)
    assert bench.sink.written == b"onetwothree"
    assert (bench.link.held_bytes, bench.link.queued_bytes, bench.link.bytes) == (8, 0, 11)
    assert bench.way.plain


def test_a_delayed_chunk_waits_for_its_time_and_sets_one_alarm(bench):
    bench.rule(LinkRule(latency_us=500))
    bench.send(b"one")
    bench.send(b"two")
    assert bench.alarms == [1_000_500]
    bench.at(1_000_499)
    assert bench.sink.written == b""
    bench.at(1_000_500)
    assert bench.sink.written == b"onetwo"
    assert bench.link.delayed == 2


def test_what_is_on_its_way_when_the_cut_comes_is_held_too(bench):
    bench.rule(LinkRule(latency_us=500))
    bench.send(b"late")
    bench.rule(LinkRule(latency_us=500, cut=True))
    bench.at(2_000_000)
    assert bench.sink.written == b""
    assert bench.link.held_bytes == 4
    bench.rule(LinkRule(latency_us=500, cut=True))
    assert bench.link.held_bytes == 4  # the same bytes are not counted twice
    bench.rule(CLEAN)
    assert bench.sink.written == b"late"


def test_the_end_of_the_stream_is_held_behind_the_bytes(bench):
    bench.rule(LinkRule(cut=True))
    bench.send(b"last")
    bench.way.finish(Mark.END)
    assert not bench.sink.ended
    bench.rule(CLEAN)
    assert bench.sink.written == b"last"
    assert bench.sink.ended


def test_a_reset_of_the_sender_is_held_by_a_cut(bench):
    bench.rule(LinkRule(cut=True))
    bench.way.finish(Mark.RESET)
    assert bench.broken == 0
    bench.rule(CLEAN)
    assert bench.broken == 1


def test_beyond_the_limit_the_source_is_not_read_until_there_is_room(bench):
    bench.rule(LinkRule(cut=True))
    bench.send(b"x" * LIMIT)
    assert bench.source.reading
    bench.send(b"x")
    assert not bench.source.reading
    bench.rule(CLEAN)
    assert bench.source.reading


def test_a_full_sink_stops_the_source_and_nothing_is_written_to_it(bench):
    bench.way.blocked = True
    bench.way.settle()
    assert not bench.source.reading
    bench.send(b"more")
    assert bench.sink.written == b""
    bench.way.unblock()
    assert bench.sink.written == b"more"
    assert bench.source.reading


def test_a_reset_rule_breaks_the_connection_with_the_next_chunk(bench):
    bench.link.set_rule(LinkRule(cut=True, mode="reset"))
    bench.way.settle()
    bench.send(b"x")
    assert bench.broken == 1
    assert bench.sink.written == b""
    assert bench.way.room.queued == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.binary(min_size=1, max_size=2_000)),
        st.tuples(
            st.just("rule"),
            st.builds(
                LinkRule,
                cut=st.booleans(),
                latency_us=st.sampled_from([0, 10, 1_000]),
                jitter_us=st.sampled_from([0, 500]),
                bandwidth_bps=st.sampled_from([0, 50_000, 10**7]),
            ),
        ),
        st.tuples(st.just("wait"), st.integers(0, 5_000)),
        st.tuples(st.just("block"), st.booleans()),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_the_bytes_come_out_in_order_and_never_through_a_cut(steps):
    with pytest.MonkeyPatch.context() as monkeypatch:
        bench = Bench()
        monkeypatch.setattr(shim_way, "now_us", lambda: bench.now)
        sent = b""
        for kind, value in steps:
            before = bench.sink.written
            if kind == "send":
                sent += value
                bench.send(value)
            elif kind == "rule":
                bench.rule(value)
            elif kind == "wait":
                bench.at(bench.now + value)
            elif value:
                bench.way.blocked = True
                bench.way.settle()
            else:
                bench.way.unblock()
            assert sent.startswith(bench.sink.written)
            if bench.link.cut:
                assert bench.sink.written == before
            assert bench.way.queued == len(sent) - len(bench.sink.written)
            assert bench.link.queued_bytes == bench.way.room.queued == bench.way.queued
            assert bench.link.bytes == len(bench.sink.written)
            assert bench.source.reading or bench.way.queued > LIMIT or bench.way.blocked
        bench.way.unblock()
        bench.rule(CLEAN)
        assert bench.sink.written == sent
        assert bench.way.plain
