"""Selectors as dialogues: a word in, node ids out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.errors import UsageError
from kvlab.fault.selector import Scene, resolve
from kvlab.rng import Rng

FIVE = ("server1", "server2", "server3", "server4", "server5")


def pick(selector: str, nodes: tuple[str, ...] = FIVE, seed: int = 1) -> tuple[str, ...]:
    return resolve(selector, nodes, Rng(seed))


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("server2", ("server2",)),
        ("server3, server1", ("server1", "server3")),
        ("server1,server1", ("server1",)),
        ("all", FIVE),
        ("not(server1,server2)", ("server3", "server4", "server5")),
        ("not(not(server4))", ("server4",)),
        ("server1,not(all),server2", ("server1", "server2")),
    ],
)
def test_names_are_taken_in_the_order_of_the_nodes(selector, expected):
    assert pick(selector) == expected


@pytest.mark.parametrize(
    ("nodes", "minority", "majority"), [(1, None, 1), (2, None, 2), (3, 1, 2), (4, 1, 3), (5, 2, 3)]
)
def test_minority_and_majority_have_the_sizes_that_their_names_promise(nodes, minority, majority):
    assert len(pick("majority", FIVE[:nodes])) == majority
    if minority is None:
        with pytest.raises(UsageError, match="no minority"):
            pick("minority", FIVE[:nodes])
    else:
        assert len(pick("minority", FIVE[:nodes])) == minority


def test_the_draw_follows_the_seed_and_reaches_every_node():
    assert pick("one", seed=7) == pick("one", seed=7)
    assert {pick("one", seed=seed)[0] for seed in range(100)} == set(FIVE)


def test_not_of_a_drawn_group_is_its_complement():
    for seed in range(20):
        rest = pick("not(minority)", seed=seed)
        assert len(rest) == 3
        assert rest == tuple(node for node in FIVE if node in rest)


@pytest.mark.parametrize(
    ("selector", "complaint"),
    [
        ("server9", "server9.*server1, server2"),
        ("", "empty"),
        ("server1,", "empty"),
        ("not()", "empty"),
        ("not(server1", "parentheses"),
        ("server1)", "parentheses"),
        ("not(all)", "selects no node"),
        ("ALL", "no node or selector"),
        ("not(" * 20 + "all" + ")" * 20, "nests"),
        ("x" * 100_000, "characters"),
    ],
)
def test_what_cannot_be_selected_is_a_usage_error_that_helps(selector, complaint):
    with pytest.raises(UsageError, match=complaint):
        pick(selector)


def test_without_nodes_nothing_can_be_selected():
    with pytest.raises(UsageError, match="no node"):
        resolve("all", (), Rng(1))


@given(st.text(alphabet="server123not(),allmjy |", max_size=40), st.integers(0, 5))
def test_any_text_selects_known_nodes_or_is_a_usage_error(text, seed):
    try:
        chosen = pick(text, seed=seed)
    except UsageError:
        return
    assert chosen
    assert chosen == tuple(node for node in FIVE if node in chosen)


def test_a_scenario_knows_whose_turn_it_is_and_who_keeps_a_key():
    def pick_in(selector, turn=0):
        scene = Scene(turn, {"k": ("server4", "server2", "server5")}.__getitem__)
        return resolve(selector, FIVE, Rng(1), scene)

    assert [pick_in("each", turn) for turn in (0, 1, 5)] == [
        ("server1",),
        ("server2",),
        ("server1",),
    ]
    assert pick_in("replicas(k)") == ("server2", "server4", "server5")
    assert pick_in("owner(k)") == pick_in("coordinator(k)") == ("server4",)
    assert pick_in("not(replicas(k)),owner(k)") == ("server1", "server3", "server4")


@pytest.mark.parametrize("selector", ["each", "owner(k)", "not(replicas(k))"])
def test_where_there_is_no_scenario_such_words_are_refused(selector):
    with pytest.raises(UsageError, match="scenarios alone"):
        pick(selector)
