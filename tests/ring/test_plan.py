"""Plans: what a change would move and how even it ends, live or on paper."""

from __future__ import annotations

import json

import pytest

from kvlab.errors import UsageError
from kvlab.ring.change import describe, first_map, join, leave
from kvlab.ring.cluster_map import Member
from kvlab.ring.placement import PLACEMENTS
from kvlab.ring.plan import SAMPLE_KEYS, compare, plan, sample_keys

FIVE = [f"server{number}" for number in range(1, 6)]


def live(count=5, range_count=256):
    return first_map(
        "lab", [(f"server{at}", f"h:{at}") for at in range(1, count + 1)], 3, range_count
    )


def test_a_plan_for_a_live_map_says_what_the_join_will_do():
    start = live()
    found = plan(start, add=1)
    done = describe(start, join(start, "server6", "h:6"))
    assert found.added == ("server6",)
    assert found.ranges.movement.copies == done.moved_copies == 128
    assert found.ranges.movement.minimum_copies == done.minimum_copies
    assert {(move.range, move.target) for move in found.ranges.movement.moves} == {
        (move.range, move.target) for move in done.moves
    }
    assert found.ranges.after.max_over_mean <= 1.01


def test_a_plan_for_a_live_map_says_what_the_leave_will_do():
    start = live()
    found = plan(start, remove=["server3"])
    done = describe(start, leave(start, "server3"))
    assert found.removed == ("server3",)
    assert found.ranges.movement.copies == done.moved_copies
    assert found.between_survivors == 0


def test_a_plan_counts_real_keys_when_it_is_told_them():
    start = live(3, 4)
    found = plan(start, add=["extra"], key_counts=[100, 0, 7, 3])
    assert (found.keys, found.sampled) == (110, False)
    targets = [move.range for move in found.ranges.movement.moves]
    assert found.moved_keys == sum([100, 0, 7, 3][at] for at in targets)
    assert sum(one.held for one in found.before.nodes) == 330


def test_a_leaving_member_is_gone_from_the_start():
    found = plan(leave(live(), "server5"), add=1)
    assert found.nodes_before == 4
    assert found.added == ("server5",)  # the lowest free name of those who stay


def test_a_bare_list_of_nodes_can_be_planned():
    found = plan(FIVE, add=1, replication=2, range_count=64)
    assert (found.nodes_before, found.nodes_after, found.replication) == (5, 6, 2)
    assert found.sampled
    assert found.keys == SAMPLE_KEYS
    assert found.ranges.movement.copies == found.ranges.movement.minimum_copies


@pytest.mark.parametrize("name", PLACEMENTS)
def test_every_placement_is_judged_on_the_same_keys_and_always_alike(name):
    found = plan(FIVE, add=1, placement=name, replication=1)
    assert found.keys == SAMPLE_KEYS
    assert sum(one.held for one in found.after.nodes) == SAMPLE_KEYS
    assert found == plan(FIVE, add=1, placement=name, replication=1)
    assert json.loads(json.dumps(found.to_builtins()))["placement"] == name


def test_the_claim_is_more_even_than_the_rings_and_jump_shuffles_on_removal():
    plans = {one.placement: one for one in compare(FIVE, remove=["server2"], replication=1)}
    assert list(plans) == list(PLACEMENTS)
    claimed = plans["claim"]
    assert claimed.after.max_over_mean < plans["tokens"].after.max_over_mean
    assert plans["tokens"].after.max_over_mean < plans["crc32"].after.max_over_mean
    assert claimed.between_survivors == plans["rendezvous"].between_survivors == 0
    assert plans["jump"].between_survivors > SAMPLE_KEYS // 5
    for name in ("tokens", "crc32", "rendezvous"):
        assert plans[name].moved_keys == plans[name].minimum_keys  # what the leaver held


def test_the_share_moved_on_join_is_near_one_part_of_n():
    found = plan(FIVE, add=1)
    assert found.moved_share == pytest.approx(1 / 6, rel=0.03)
    assert found.k_over_n == pytest.approx(SAMPLE_KEYS * 3 / 6)


def test_members_with_weights_can_be_added():
    found = plan(FIVE, add=[Member("big", 9, "h:9", weight=2.0)], replication=1)
    shares = {one.id: one for one in found.after.nodes}
    assert shares["big"].held == pytest.approx(2 * shares["server1"].held, rel=0.15)


def test_the_sample_is_fixed():
    assert sample_keys(2) == (b"user:0", b"user:1")


@pytest.mark.parametrize(
    ("source", "change", "sentence"),
    [
        (FIVE, {}, "nothing to plan"),
        (FIVE, {"remove": ["server9"]}, "server9 is not a member"),
        (FIVE, {"add": ["server1"]}, "member already"),
        (FIVE, {"add": ["x", "x"]}, "listed twice"),
        (FIVE, {"add": -1}, "cannot add -1"),
        (["a"], {"remove": ["a"]}, "no node would be left"),
        ([], {"add": 1}, "at least one node"),
        (["a", "a"], {"add": 1}, "listed twice"),
        (FIVE, {"add": 1, "placement": "nope"}, "no placement 'nope'"),
        (FIVE, {"add": 1, "range_count": 7}, "power of two"),
        (FIVE, {"add": 1, "replication": 0}, "1 or more"),
        (FIVE, {"add": 1, "key_counts": [1]}, "1 counts of keys"),
        (live(), {"add": 1, "replication": 2}, "those of the map"),
    ],
)
def test_impossible_plans_are_refused(source, change, sentence):
    with pytest.raises(UsageError, match=sentence):
        plan(source, **change)
