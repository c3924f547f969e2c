"""Differences of assignments: sources, totals, K/N, and what counts as shuffling."""

from __future__ import annotations

import pytest

from kvlab.ring.claim import claim
from kvlab.ring.cluster_map import Member
from kvlab.ring.movement import Move, k_over_n, movement, moves_between, range_moves, weigh


def nodes(*names, weight=1.0):
    return [Member(name, place, f"h:{place}", weight=weight) for place, name in enumerate(names)]


def test_a_newcomer_reads_first_from_the_one_it_replaces():
    assert range_moves(7, ("a", "b", "c"), ("a", "d", "c")) == (Move(7, ("b", "a", "c"), "d"),)


def test_two_newcomers_do_not_start_at_the_same_source():
    one, two = range_moves(0, ("a", "b", "c"), ("x", "c", "y"))
    assert (one.target, two.target) == ("x", "y")
    assert (one.source_candidates[0], two.source_candidates[0]) == ("a", "b")
    assert set(one.source_candidates) == set(two.source_candidates) == {"a", "b", "c"}


def test_another_order_and_a_departure_move_nothing():
    assert moves_between([("a", "b"), ("a", "b")], [("b", "a"), ("a",)]) == ()


def test_assignments_of_different_length_are_not_compared():
    with pytest.raises(ValueError, match="argument 2"):
        moves_between([("a",)], [("a",), ("a",)])


def test_moves_are_weighed_by_range():
    moves = moves_between([("a",), ("a",), ("b",)], [("b",), ("a",), ("a",)])
    assert weigh(moves, [5, 100, 7]) == 12
    assert weigh(moves, {0: 5, 2: 7}) == 12


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("abc", "abcd", 192.0),  # 256 x 3 / 4
        ("abcd", "abc", 192.0),  # the leaver's share
        ("ab", "abc", 256.0),  # a third copy of everything, all on the newcomer
        ("abc", "ab", 0.0),  # nobody is left to hold a third copy
        ("abc", "abc", 0.0),
        ("abcde", "abcdf", 153.6),  # the newcomer takes what the leaver held
        ("abcde", "fg", 512.0),  # two newcomers hold all
    ],
)
def test_k_over_n_of_the_textbook(before, after, expected):
    assert k_over_n(256, 3, nodes(*before), nodes(*after)) == pytest.approx(expected)


def test_a_heavy_newcomer_is_due_its_weight():
    after = [*nodes("a", "b", "c"), Member("d", 3, "h:3", weight=3.0)]
    assert k_over_n(60, 1, nodes("a", "b", "c"), after) == pytest.approx(30.0)


def test_the_claim_moves_its_minimum_and_shuffles_nothing():
    before, after = nodes(*"abcd"), nodes(*"abcde")
    old = claim(256, 3, before)
    new = claim(256, 3, after, old)
    found = movement(
        old, new, replication=3, members_before=before, members_after=after, weights=[10] * 256
    )
    assert found.copies == found.minimum_copies == len(found.moves)
    assert found.moved == 10 * found.copies
    assert found.between_survivors == 0
    assert found.k_over_n == pytest.approx(1536.0)
    assert found.copies <= found.k_over_n / 10 + 1


def test_replacing_what_a_leaver_held_is_no_shuffle_but_swapping_among_stayers_is():
    before, after = nodes(*"abc"), nodes(*"ab")
    old = [("c",), ("a",), ("a",)]
    new = [("a",), ("b",), ("a",)]
    found = movement(old, new, replication=1, members_before=before, members_after=after)
    assert found.copies == 2
    assert found.between_survivors == 1


def test_a_newcomer_in_place_of_a_leaver_does_not_excuse_a_second_move():
    before, after = nodes(*"abcd"), nodes(*"abce")
    found = movement(
        [("d", "a")], [("e", "b")], replication=2, members_before=before, members_after=after
    )
    assert (found.copies, found.between_survivors) == (2, 1)
