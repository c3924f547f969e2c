"""What a map says about itself, what it survives, and what it refuses to be."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest

from kvlab.ring.change import first_map, join, leave
from kvlab.ring.cluster_map import ClusterMap, Member, RangeState
from kvlab.ring.slot import SLOT_COUNT

FOUNDERS = [("server1", "h:1"), ("server2", "h:2"), ("server3", "h:3")]


def moving_map() -> ClusterMap:
    start = first_map("lab", FOUNDERS, replication=2, range_count=16)
    return join(start, "server4", "h:4", client_address="c:4", weight=2.0, rack="b")


@pytest.mark.parametrize("power", range(15))
def test_every_slot_lies_in_exactly_the_range_that_lists_it(power):
    one = first_map("lab", FOUNDERS, replication=1, range_count=2**power)
    slots = [slot for index in range(one.range_count) for slot in one.slots_of_range(index)]
    assert slots == list(range(SLOT_COUNT))
    for slot in (0, 1, 4095, 4096, SLOT_COUNT - 1):
        assert slot in one.slots_of_range(one.range_of_slot(slot))


def test_members_are_found_by_id():
    one = moving_map()
    assert one.member("server4") == one.members[3]
    assert one.member("nobody") is None
    assert one.member_ids == ("server1", "server2", "server3", "server4")


def test_held_by_counts_both_sides_of_a_move():
    one = moving_map()
    moving = [at for at, state in enumerate(one.ranges) if "server4" in state.writers]
    assert one.held_by("server4") == tuple(moving)
    assert set(moving) == set(one.joint_ranges())
    gone_from = next(at for at in moving if set(one.ranges[at].replicas) - set(one.ranges[at].next))
    loser = (set(one.ranges[gone_from].replicas) - set(one.ranges[gone_from].next)).pop()
    assert gone_from in one.held_by(loser)


def test_writers_are_replicas_then_the_rest_of_next():
    assert RangeState(("a", "b")).writers == ("a", "b")
    state = RangeState(("a", "b"), ("c", "b", "d"))
    assert state.writers == ("a", "b", "c", "d")
    assert state.is_joint
    assert state.target == ("c", "b", "d")
    assert not RangeState(("a",)).is_joint


def test_builtins_survive_json():
    one = moving_map()
    assert ClusterMap.from_builtins(json.loads(json.dumps(one.to_builtins()))) == one


def test_equal_maps_have_equal_digests_and_others_do_not():
    one, again = moving_map(), moving_map()
    assert one.digest() == again.digest()
    assert one.digest() != leave(one, "server1").digest()
    assert one.digest() != replace(one, cluster="other").digest()


def break_at(path, value):
    """Return builtins of a good map with one place changed; `value` None deletes it."""
    tree = copy.deepcopy(moving_map().to_builtins())
    place = tree
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return tree


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (["epoch"], 0, "epoch 0"),
        (["epoch"], True, "'epoch' must be of type int"),
        (["epoch"], "3", "'epoch' must be of type int"),
        (["cluster"], "", "name of its cluster"),
        (["cluster"], None, "'cluster' is missing"),
        (["replication"], 0, "at least 1 copy"),
        (["members"], {}, "'members' must be a list"),
        (["members"], [], "at least one member"),
        (["members", 0], 7, "member 0 must be an object"),
        (["members", 0, "id"], "", "empty id"),
        (["members", 0, "id"], None, "member 0: 'id' is missing"),
        (["members", 1, "id"], "server1", "listed twice"),
        (["members", 1, "number"], 0, "shares number 0"),
        (["members", 1, "number"], 99, "not below next_number"),
        (["members", 1, "weight"], 0.0, "above 0"),
        (["members", 1, "weight"], float("nan"), "above 0"),
        (["members", 1, "incarnation"], 0, "the first is 1"),
        (["members", 1, "address"], "", "no address"),
        (["members", 3, "leaving"], True, "which is leaving"),
        (["members", 3, "leaving"], 1, "'leaving' must be of type bool"),
        (["next_number"], 4097, "next_number 4097"),
        (["ranges"], [{"replicas": ["server1"]}] * 3, "power of two"),
        (["ranges"], [], "power of two"),
        (["ranges", 2], [], "range 2 must be an object"),
        (["ranges", 2, "replicas"], [], "names 0 members"),
        (["ranges", 2, "replicas"], ["server1", "server2", "server3"], "names 3 members"),
        (["ranges", 2, "replicas"], ["server1", "server1"], "names a member twice"),
        (["ranges", 2, "replicas"], ["server9"], "not a member"),
        (["ranges", 2, "replicas"], [1], "must list member ids"),
        (["ranges", 2, "replicas"], "server1", "'replicas' must be a list"),
        (["ranges", 2, "next"], ["server9"], "not a member"),
        (["ranges", 2, "next"], "server1", "'next' must be a list"),
    ],
)
def test_a_malformed_map_is_refused_with_a_sentence(path, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        ClusterMap.from_builtins(break_at(path, value))


@pytest.mark.parametrize("junk", [None, 3, "map", [], {}, {"cluster": "x"}])
def test_junk_is_refused(junk):
    with pytest.raises(ValueError, match="map"):
        ClusterMap.from_builtins(junk)


def test_a_move_to_the_same_set_is_refused():
    member = Member("a", 0, "h:1"), Member("b", 1, "h:2")
    with pytest.raises(ValueError, match="moving to the members that it has"):
        ClusterMap("lab", 1, 2, member, (RangeState(("a", "b"), ("b", "a")),), 2)


def test_a_whole_number_is_taken_for_a_weight():
    tree = break_at(["members", 0, "weight"], 3)
    assert ClusterMap.from_builtins(tree).members[0].weight == 3.0


def test_fields_that_have_defaults_may_be_missing():
    tree = first_map("lab", FOUNDERS, range_count=4).to_builtins()
    for member in tree["members"]:
        for name in ("client_address", "incarnation", "weight", "rack", "leaving"):
            del member[name]
    for state in tree["ranges"]:
        del state["next"]
    assert ClusterMap.from_builtins(tree) == first_map("lab", FOUNDERS, range_count=4)
