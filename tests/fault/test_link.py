"""Link rules as dialogues: a rule and a chunk in, its fate out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.errors import UsageError
from kvlab.fault.link import (
    CLEAN,
    HOLD,
    RESET,
    Deliver,
    LinkRule,
    StreamState,
    WireState,
    connect_fate,
    fate,
    slice_bytes,
)
from kvlab.rng import Rng

CUT = LinkRule(cut=True)
BROKEN = LinkRule(cut=True, mode="reset")
RULES = st.builds(
    LinkRule,
    latency_us=st.integers(0, 100_000),
    jitter_us=st.integers(0, 100_000),
    bandwidth_bps=st.sampled_from([0, 1, 1_000, 10**6, 10**9]),
)


def test_a_clean_link_delivers_now_and_draws_nothing():
    rng = Rng(1)
    before = rng.getstate()
    assert fate(CLEAN, StreamState(), 500, 1000, rng) == Deliver(500)
    assert rng.getstate() == before


def test_a_cut_holds_or_resets_and_leaves_the_stream_as_it_was():
    state = StreamState()
    assert fate(CUT, state, 500, 10, Rng(1)) is HOLD
    assert fate(BROKEN, state, 500, 10, Rng(1)) is RESET
    assert state == StreamState()


def test_latency_is_added_to_every_chunk():
    state, rule = StreamState(), LinkRule(latency_us=50_000)
    assert fate(rule, state, 0, 10, Rng(1)) == Deliver(50_000)
    assert fate(rule, state, 10, 10, Rng(1)) == Deliver(50_010)


def test_bandwidth_is_shared_by_the_streams_of_a_link():
    wire, rule = WireState(), LinkRule(bandwidth_bps=1_000)
    one, two = StreamState(wire), StreamState(wire)
    assert fate(rule, one, 0, 100, Rng(1)) == Deliver(100_000)
    assert fate(rule, two, 0, 100, Rng(1)) == Deliver(200_000)
    assert fate(rule, one, 1_000_000, 100, Rng(1)) == Deliver(1_100_000)  # idle time is not saved


def test_jitter_stays_in_its_band_and_reaches_both_ends():
    rule = LinkRule(latency_us=1_000, jitter_us=200)
    rng = Rng(3)
    delays = [fate(rule, StreamState(), 0, 1, rng).at_us for _ in range(2_000)]
    assert 800 <= min(delays) < 820
    assert 1_180 < max(delays) <= 1_200


def test_a_later_shorter_latency_does_not_overtake():
    state = StreamState()
    assert fate(LinkRule(latency_us=10_000), state, 0, 1, Rng(1)) == Deliver(10_000)
    assert fate(LinkRule(latency_us=1_000), state, 5, 1, Rng(1)) == Deliver(10_000)


@given(
    st.lists(st.tuples(RULES, st.integers(0, 50_000), st.integers(0, 100_000)), max_size=40),
    st.integers(0, 10),
)
def test_delivery_never_goes_backwards_nor_before_the_least_latency(chunks, seed):
    state, rng, now, last = StreamState(), Rng(seed), 0, 0
    for rule, pause, size in chunks:
        now += pause
        answer = fate(rule, state, now, size, rng)
        assert isinstance(answer, Deliver)
        assert answer.at_us >= max(now, last, now + rule.latency_us - rule.jitter_us)
        last = answer.at_us


@given(st.integers(1, 10**7), st.lists(st.integers(1, 65_536), min_size=1, max_size=30))
def test_a_busy_link_carries_exactly_its_bandwidth(bandwidth, sizes):
    rule, state = LinkRule(bandwidth_bps=bandwidth), StreamState()
    for size in sizes:
        answer = fate(rule, state, 0, size, Rng(1))
    exact_us = sum(sizes) * 1_000_000 / bandwidth
    assert exact_us <= answer.at_us <= exact_us + len(sizes)


def test_narrow_links_are_sent_in_small_pieces():
    assert slice_bytes(CLEAN) == 0
    assert slice_bytes(LinkRule(latency_us=5)) == 0
    assert slice_bytes(LinkRule(bandwidth_bps=1)) == 512
    assert slice_bytes(LinkRule(bandwidth_bps=1_000_000)) == 5_000
    assert slice_bytes(LinkRule(bandwidth_bps=10**12)) == 65_536


@pytest.mark.parametrize(
    ("out", "back", "answer"),
    [
        (CLEAN, CLEAN, "accept"),
        (LinkRule(latency_us=10**6), CLEAN, "accept"),
        (CUT, CLEAN, "hang"),
        (CLEAN, CUT, "hang"),
        (BROKEN, CLEAN, "refuse"),
        (CUT, BROKEN, "refuse"),
        (LinkRule(connect="hang"), CLEAN, "hang"),
        (LinkRule(connect="refuse"), CUT, "refuse"),
        (CLEAN, LinkRule(connect="refuse"), "accept"),
    ],
)
def test_a_connect_needs_both_directions(out, back, answer):
    assert connect_fate(out, back) == answer


def test_rules_combine_and_what_the_later_is_silent_about_stays():
    slow = LinkRule(latency_us=5_000, jitter_us=100)
    assert slow.then(CUT) == LinkRule(cut=True, latency_us=5_000, jitter_us=100)
    assert CUT.then(BROKEN).mode == "reset"
    assert BROKEN.then(slow).mode == "reset"
    assert slow.then(LinkRule(latency_us=10)) == LinkRule(latency_us=10)
    assert slow.then(LinkRule(bandwidth_bps=5, connect="hang")) == LinkRule(
        latency_us=5_000, jitter_us=100, bandwidth_bps=5, connect="hang"
    )


@given(RULES, RULES)
def test_a_clean_rule_changes_nothing_in_a_combination(one, two):
    assert one.then(CLEAN) == one == CLEAN.then(one)
    assert one.then(two).then(two) == one.then(two)


@given(RULES, st.booleans(), st.sampled_from(["accept", "refuse", "hang"]))
def test_a_rule_survives_json(rule, cut, connect):
    rule = rule.then(LinkRule(cut=cut, connect=connect))
    assert LinkRule.from_builtins(rule.to_builtins()) == rule


def test_the_text_says_what_the_rule_does():
    rule = LinkRule(cut=True, connect="hang", latency_us=50_000, jitter_us=5_000)
    assert rule.text() == "cut (hold), connect hang, latency 50ms +-5ms"
    assert CLEAN.text() == "clean"


@pytest.mark.parametrize(
    "raw",
    [
        {"latency_us": -1},
        {"latency_us": 1.5},
        {"jitter_us": True},
        {"bandwidth_bps": 10**13},
        {"mode": "melt"},
        {"connect": ["hang"]},
        {"cut": 1},
        {"colour": "red"},
        ["cut"],
        None,
    ],
)
def test_rules_that_cannot_be_are_usage_errors(raw):
    with pytest.raises(UsageError):
        LinkRule.from_builtins(raw)
