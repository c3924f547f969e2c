"""Sequences of map changes against a model of who has the data."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from kvlab.errors import UsageError
from kvlab.ring.change import (
    abort,
    commit,
    describe,
    join,
    leave,
    lost_ranges,
    placeable,
    restart,
)
from kvlab.ring.cluster_map import ClusterMap
from kvlab.ring.quota import minimum_moves

from .maps import cluster


def settled(one):
    """Commit all that moves."""
    return commit(one, one.joint_ranges()) if one.joint_ranges() else one


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["join", "leave", "restart", "commit", "commit", "abort"]),
        st.integers(0, 1000),
    ),
    max_size=25,
)


class Truth:
    """Who really has each range in full, told by the steps alone."""

    def __init__(self, start):
        self.map = start
        self.full = [set(state.replicas) for state in start.ranges]
        self.numbers = {member.number for member in start.members}
        self.fresh = 100

    def step(self, verb, draw):
        old = self.map
        ids = old.member_ids
        subject = ids[draw % len(ids)]
        if verb == "join":
            new = join(old, f"server{self.fresh}", "h:1")
            self.fresh += 1
        elif verb == "commit":
            joint = old.joint_ranges()
            arrived = joint[draw % 3 :: 2]
            new = commit(old, arrived)
            for at in arrived:
                self.full[at] |= set(old.ranges[at].next)
        elif verb == "restart":
            new = restart(old, subject, "h:2")
            for copies in self.full:
                copies.discard(subject)
        else:
            new = (leave if verb == "leave" else abort)(old, subject)
        self.map = new
        return old, new


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.sampled_from([8, 32]), STEPS)
def test_whatever_happens_replicas_have_the_data_unless_it_is_reported_lost(
    count, replication, range_count, steps
):
    truth = Truth(cluster(count, replication, range_count))
    for verb, draw in steps:
        try:
            old, new = truth.step(verb, draw)
        except UsageError:
            continue  # refused: the map is as it was
        assert new.epoch == old.epoch + 1
        assert ClusterMap.from_builtins(json.loads(json.dumps(new.to_builtins()))) == new
        for at in lost_ranges(old, new):
            truth.full[at] = set(new.ranges[at].replicas)  # starts again, empty for all
        for at, state in enumerate(new.ranges):
            assert truth.full[at].issuperset(state.replicas)
        numbers = {member.number for member in new.members}
        fresh = numbers - {member.number for member in old.members}
        assert not fresh & truth.numbers  # never given to two lives
        truth.numbers |= fresh
        what = describe(old, new)
        assert what.moved_copies == len(what.moves)
        for move in what.moves:
            assert move.target in new.ranges[move.range].next
            assert set(move.source_candidates) == set(new.ranges[move.range].replicas)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), STEPS)
def test_committing_everything_ends_at_the_target_and_in_balance(count, replication, steps):
    truth = Truth(cluster(count, replication))
    for verb, draw in steps:
        try:
            truth.step(verb, draw)
        except UsageError:
            continue
    moving = truth.map
    done = settled(moving)
    assert done.targets() == moving.targets()
    assert not done.joint_ranges()
    if moving.joint_ranges():
        assert done.members == placeable(moving.members)
        held = [len(done.held_by(one)) for one in done.member_ids]
        assert max(held) - min(held) <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 3), st.lists(st.integers(0, 50), max_size=6))
def test_changes_in_turn_move_exactly_the_minimum(count, replication, draws):
    one = cluster(count, replication)
    for step, draw in enumerate(draws):
        subject = one.member_ids[draw % len(one.members)]
        grows = draw % 2 == 0 or len(one.members) == 1
        new = join(one, f"server{100 + step}", "h:1") if grows else leave(one, subject)
        what = describe(one, new)
        least = minimum_moves(new.range_count, replication, placeable(new.members), one.targets())
        assert what.moved_copies == what.minimum_copies == least
        if grows:
            assert {move.target for move in what.moves} <= {f"server{100 + step}"}
        one = settled(new)
