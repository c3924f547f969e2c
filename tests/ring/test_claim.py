"""The claim against its invariants, its lower bound, and brute force where that is possible."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvlab.ring.claim import claim, minimum_moves, targets
from kvlab.ring.cluster_map import Member
from kvlab.ring.quota import copies_of, held_counts, quotas, rack_keys, rack_limit

SLOW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def nodes(*numbers, weights=None, racks=None):
    return [
        Member(
            f"server{number}",
            number,
            f"h:{number}",
            weight=(weights or {}).get(number, 1.0),
            rack=(racks or {}).get(number, ""),
        )
        for number in numbers
    ]


def moved(before, after):
    return sum(len(set(now) - set(was)) for was, now in zip(before, after, strict=True))


def check_invariants(range_count, replication, members, held, answer):
    """Distinct known replicas, racks, exact targets, fair first places."""
    ids = {one.id for one in members}
    copies = copies_of(replication, members)
    racks, limit = rack_keys(members), rack_limit(replication, members)
    assert len(answer) == range_count
    for replicas in answer:
        assert len(set(replicas)) == len(replicas) == copies
        assert ids.issuperset(replicas)
        for key in racks.values():
            assert sum(racks[one] == key for one in replicas) <= limit
    wanted = targets(range_count, replication, members, held)
    assert held_counts(members, answer) == wanted
    for one, target in wanted.items():
        first = sum(replicas[0] == one for replicas in answer)
        assert target // copies <= first <= -(-target // copies)


@st.composite
def small_questions(draw):
    """Few ranges and members, so that all assignments can be listed; any holders before."""
    count = draw(st.integers(1, 5))
    range_count = draw(st.sampled_from([1, 2, 3] if count == 5 else [1, 2, 3, 4]))
    replication = draw(st.integers(1, 3))
    members = nodes(
        *range(count),
        weights={one: draw(st.sampled_from([1.0, 1.0, 0.5, 2.0])) for one in range(count)},
        racks={one: draw(st.sampled_from(["", "a", "b"])) for one in range(count)},
    )
    known = [f"server{one}" for one in range(count + 2)]  # two of them are gone
    held = [
        tuple(draw(st.lists(st.sampled_from(known), unique=True, max_size=3)))
        for _ in range(range_count)
    ]
    return range_count, replication, members, held


@settings(max_examples=150, deadline=None)
@given(small_questions())
def test_no_assignment_with_the_same_targets_moves_less(question):
    range_count, replication, members, held = question
    answer = claim(range_count, replication, members, held)
    check_invariants(range_count, replication, members, held, answer)
    racks, limit = rack_keys(members), rack_limit(replication, members)
    wanted = targets(range_count, replication, members, held)
    sets = [
        choice
        for choice in combinations(sorted(wanted), copies_of(replication, members))
        if all(sum(racks[one] == key for one in choice) <= limit for key in racks.values())
    ]
    least = min(
        moved(held, everything)
        for everything in product(sets, repeat=range_count)
        if held_counts(members, everything) == wanted
    )
    assert moved(held, answer) == least
    assert least >= minimum_moves(range_count, replication, members, held)


@SLOW
@given(
    st.sampled_from([64, 256]),
    st.integers(1, 4),
    st.integers(1, 10),
    st.lists(st.one_of(st.just("join"), st.integers(0, 100)), max_size=8),
)
def test_equal_nodes_that_come_and_go_move_exactly_the_minimum(
    range_count, replication, count, steps
):
    numbers = list(range(count))
    held = claim(range_count, replication, nodes(*numbers))
    check_invariants(range_count, replication, nodes(*numbers), (), held)
    fresh = count
    for step in steps:
        before = set(numbers)
        if step == "join":
            numbers.append(fresh)
            fresh += 1
        elif len(numbers) > 1:
            numbers.pop(step % len(numbers))
        members = nodes(*numbers)
        answer = claim(range_count, replication, members, held)
        check_invariants(range_count, replication, members, held, answer)
        assert moved(held, answer) == minimum_moves(range_count, replication, members, held)
        if step == "join":
            newcomer = {f"server{one}" for one in set(numbers) - before}
            for was, now in zip(held, answer, strict=True):
                assert set(now) - set(was) <= newcomer  # nothing moves between survivors
        held = answer


@pytest.mark.parametrize("count", range(1, 17))
def test_the_fullest_of_equal_nodes_is_within_rounding_of_fair(count):
    answer = claim(256, 3, nodes(*range(count)))
    held = held_counts(nodes(*range(count)), answer)
    assert max(held.values()) - min(held.values()) <= 1
    assert max(held.values()) == -(-sum(held.values()) // count)


def test_the_copies_moved_on_growth_are_those_of_the_textbook():
    """256 ranges, 3 copies: the newcomer's share and no more."""
    held = claim(256, 3, nodes(1, 2, 3))
    series = []
    for count in range(4, 13):
        answer = claim(256, 3, nodes(*range(1, count + 1)), held)
        series.append(moved(held, answer))
        held = answer
    assert series == [192, 153, 128, 109, 96, 85, 76, 69, 64]


@SLOW
@given(st.data())
def test_weights_and_racks_are_honoured_while_members_change(data):
    held = ()
    for _ in range(3):
        numbers = data.draw(st.lists(st.integers(0, 12), unique=True, min_size=1, max_size=9))
        weights = {one: data.draw(st.sampled_from([0.5, 1.0, 2.0, 3.5])) for one in numbers}
        racks = {one: data.draw(st.sampled_from(["", "a", "b", "c"])) for one in numbers}
        members = nodes(*numbers, weights=weights, racks=racks)
        answer = claim(32, 3, members, held)
        check_invariants(32, 3, members, held, answer)
        assert moved(held or ((),) * 32, answer) >= minimum_moves(32, 3, members, held)
        held = answer


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(7)))
def test_the_order_of_members_does_not_matter(order):
    assert claim(64, 3, nodes(*order)) == claim(64, 3, nodes(*range(7)))


def test_claiming_again_changes_nothing():
    members = nodes(*range(9), weights={3: 2.0})
    answer = claim(128, 3, members)
    assert claim(128, 3, members, answer) == answer


def test_the_members_who_stay_keep_their_places():
    before = claim(256, 3, nodes(1, 2, 3, 4))
    after = claim(256, 3, nodes(1, 2, 3, 4, 5), before)
    untouched = [at for at in range(256) if set(before[at]) == set(after[at])]
    assert untouched
    # Only first places may be swapped, to stay fair; what is not swapped is as it was.
    same = sum(before[at] == after[at] for at in untouched)
    assert same >= len(untouched) * 0.9


def test_a_node_too_heavy_is_capped_and_the_excess_is_shared():
    members = nodes(1, 2, 3, 4, weights={4: 2.0})
    assert targets(256, 3, members)["server4"] == 256
    assert sum(targets(256, 3, members).values()) == 768
    exact = quotas(256, 3, members)
    assert exact["server1"] == exact["server2"] == exact["server3"]


def test_racks_enough_keep_copies_apart_even_at_the_price_of_balance():
    members = nodes(1, 2, 3, 4, racks={1: "a", 2: "a", 3: "b", 4: "c"})
    assert rack_limit(3, members) == 1
    assert targets(256, 3, members) == {
        "server1": 128,
        "server2": 128,
        "server3": 256,
        "server4": 256,
    }


def test_too_few_racks_share_copies_as_evenly_as_they_can():
    members = nodes(*range(6), racks={one: "ab"[one % 2] for one in range(6)})
    assert rack_limit(3, members) == 2
    answer = claim(64, 3, members)
    assert all(len({int(one[6:]) % 2 for one in replicas}) == 2 for replicas in answer)


def test_more_copies_than_nodes_are_as_many_as_the_nodes():
    assert all(len(replicas) == 2 for replicas in claim(16, 3, nodes(1, 2)))


def test_impossible_claims_are_refused():
    with pytest.raises(ValueError, match="at least one member"):
        claim(16, 3, [])
    with pytest.raises(ValueError, match="0 copies"):
        claim(16, 0, nodes(1))
    with pytest.raises(ValueError, match="3 lists of holders for 16 ranges"):
        claim(16, 3, nodes(1), [("server1",)] * 3)
