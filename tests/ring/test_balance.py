"""Shares and evenness on assignments whose numbers are known by hand."""

from __future__ import annotations

import pytest

from kvlab.ring.balance import balance, slot_balance
from kvlab.ring.change import first_map, join
from kvlab.ring.cluster_map import SLOT_COUNT, Member

A, B, C = (Member(name, place, f"h:{place}") for place, name in enumerate("abc"))


def test_an_even_assignment_is_perfect():
    found = balance([A, B], [("a",), ("b",)])
    assert found.max_over_mean == found.min_over_mean == found.owner_max_over_mean == 1.0
    assert found.variation == 0.0


def test_shares_count_first_places_and_copies():
    found = balance([A, B, C], [("a", "b"), ("a", "c"), ("a", "b")])
    shares = {one.id: one for one in found.nodes}
    assert (shares["a"].owned, shares["a"].held) == (3, 3)
    assert (shares["b"].owned, shares["b"].held) == (0, 2)
    assert shares["c"].fair_held == 2.0
    assert found.max_over_mean == 1.5
    assert found.min_over_mean == 0.5
    assert found.owner_max_over_mean == 3.0
    assert found.variation == pytest.approx((1 / 6) ** 0.5)


def test_weights_of_items_and_of_nodes_are_both_honoured():
    heavy = Member("b", 1, "h:1", weight=3.0)
    found = balance([A, heavy], [("a",), ("b",)], [25, 75])
    assert [one.held for one in found.nodes] == [25, 75]
    assert found.max_over_mean == found.min_over_mean == 1.0


def test_nothing_at_all_is_no_division_by_zero():
    found = balance([A, B], [], [])
    assert (found.max_over_mean, found.variation) == (0.0, 0.0)
    assert balance([], [("a",)]).max_over_mean == 0.0


def test_a_map_is_measured_in_slots_by_who_serves_now():
    start = first_map("lab", [("server1", "h:1"), ("server2", "h:2")], 1, 64)
    found = slot_balance(join(start, "server3", "h:3"))
    assert [one.held for one in found.nodes] == [SLOT_COUNT // 2, SLOT_COUNT // 2, 0]
    assert sum(one.owned for one in found.nodes) == SLOT_COUNT


def test_builtins_hold_the_figures():
    tree = balance([A, B], [("a",), ("a",)]).to_builtins()
    assert tree["max_over_mean"] == 2.0
    assert tree["nodes"][1] == {
        "id": "b",
        "weight": 1.0,
        "owned": 0,
        "held": 0,
        "fair_owned": 1.0,
        "fair_held": 1.0,
    }
