"""Partitions as dialogues: groups or a shape in, directed links out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.errors import UsageError
from kvlab.fault import partition
from kvlab.fault.partition import one_way, parse_groups, shape, split
from kvlab.rng import Rng

FIVE = ("server1", "server2", "server3", "server4", "server5")


def some_nodes(count: int) -> tuple[str, ...]:
    return tuple(f"server{index}" for index in range(1, count + 1))


def reachable(node: str, nodes: tuple[str, ...], links) -> set[str]:
    return {other for other in nodes if (node, other) not in links and (other, node) not in links}


def test_two_groups_cut_every_link_between_them_in_stable_order():
    cut = parse_groups("server1, server2 | server3", some_nodes(3))
    assert cut.groups == (("server1", "server2"), ("server3",))
    assert cut.links == (
        ("server1", "server3"),
        ("server2", "server3"),
        ("server3", "server1"),
        ("server3", "server2"),
    )


def test_nodes_that_are_not_named_form_the_last_group():
    cut = parse_groups("server2|server4", FIVE)
    assert cut.groups == (("server2",), ("server4",), ("server1", "server3", "server5"))
    assert parse_groups("server1,server2", FIVE).groups == (FIVE[:2], FIVE[2:])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("server1 | server9", "server9.*server1, server2"),
        ("server1,server2 | server2", "more than one group"),
        ("server1 |", "empty place"),
        ("", "empty place"),
        ("server1,,server2 | server3", "empty place"),
        (",".join(FIVE), "no partition"),
    ],
)
def test_groups_that_make_no_sense_are_usage_errors(text, complaint):
    with pytest.raises(UsageError, match=complaint):
        parse_groups(text, FIVE)


def test_one_way_cuts_there_and_not_back():
    cut = one_way(["server1"], ["server2", "server3"], FIVE)
    assert cut.links == (("server1", "server2"), ("server1", "server3"))


def test_one_way_needs_known_and_distinct_ends():
    with pytest.raises(UsageError, match="server9"):
        one_way(["server9"], ["server1"], FIVE)
    with pytest.raises(UsageError, match="cut no link"):
        one_way(["server1"], ["server1"], FIVE)


def test_halves_and_isolate_and_bridge_of_five():
    assert partition.halves(FIVE).groups == (FIVE[:2], FIVE[2:])
    assert partition.isolate("server3", FIVE).groups[0] == ("server3",)
    cut = set(partition.bridge(FIVE).links)
    assert reachable("server3", FIVE, cut) == set(FIVE)
    assert reachable("server1", FIVE, cut) == {"server1", "server2", "server3"}
    assert reachable("server5", FIVE, cut) == {"server3", "server4", "server5"}


@pytest.mark.parametrize("count", range(4, 12))
def test_in_a_ring_of_majorities_no_two_nodes_see_the_same_majority(count):
    nodes = some_nodes(count)
    cut = set(partition.majorities_ring(nodes).links)
    views = [frozenset(reachable(node, nodes, cut)) for node in nodes]
    assert all(len(view) > count // 2 for view in views)
    assert len(set(views)) == count


@pytest.mark.parametrize(
    ("name", "count"), [("bridge", 2), ("majorities-ring", 3), ("minority", 2), ("halves", 1)]
)
def test_shapes_that_need_more_nodes_say_so(name, count):
    with pytest.raises(UsageError):
        shape(name, some_nodes(count), Rng(1))


def test_an_unknown_shape_names_the_known_ones():
    with pytest.raises(UsageError, match="spiral") as caught:
        shape("spiral", FIVE, Rng(1))
    assert "majorities-ring" in caught.value.hint


def test_isolate_by_name_takes_the_subject_or_draws_one():
    assert shape("isolate", FIVE, Rng(1), subject="server4").groups[0] == ("server4",)
    drawn = {shape("isolate", FIVE, Rng(seed)).groups[0][0] for seed in range(100)}
    assert drawn == set(FIVE)


@given(st.integers(4, 9), st.sampled_from(partition.SHAPES), st.integers(0, 1000))
def test_every_shape_is_symmetric_in_stable_order_and_follows_its_seed(count, name, seed):
    nodes = some_nodes(count)
    cut = shape(name, nodes, Rng(seed))
    links = set(cut.links)
    assert cut == shape(name, nodes, Rng(seed))
    assert len(links) == len(cut.links)
    assert links == {(b, a) for a, b in links}
    assert list(cut.links) == [(a, b) for a in nodes for b in nodes if (a, b) in links]


@given(st.lists(st.integers(0, 3), min_size=2, max_size=8))
def test_a_split_cuts_exactly_the_links_between_different_groups(sides):
    nodes = some_nodes(len(sides))
    side_of = dict(zip(nodes, sides, strict=True))
    groups = [[node for node in nodes if side_of[node] == side] for side in sorted(set(sides))]
    if len(groups) == 1:
        with pytest.raises(UsageError):
            split(groups, nodes)
        return
    links = split(groups, nodes).links
    for a in nodes:
        for b in nodes:
            assert ((a, b) in links) == (side_of[a] != side_of[b])
