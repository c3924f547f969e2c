"""Transitions of the map: single ones as dialogues, sequences against a model of who has the data."""

from __future__ import annotations

import pytest

from kvlab.errors import UsageError
from kvlab.ring.change import (
    abort,
    at_once,
    commit,
    describe,
    first_map,
    forget,
    join,
    leave,
    lost_ranges,
    restart,
)
from kvlab.ring.cluster_map import NUMBER_LIMIT, ClusterMap, Member, RangeState

from .maps import cluster, founders


def settled(one):
    """Commit all that moves."""
    return commit(one, one.joint_ranges()) if one.joint_ranges() else one


# ---------------------------------------------------------------- first_map


def test_the_first_map_is_the_same_for_the_same_list_in_any_order():
    assert first_map("lab", founders(5)) == first_map("lab", founders(5)[::-1])


def test_the_first_map_is_stable_and_numbered():
    one = cluster(4)
    assert one.epoch == 1
    assert not one.joint_ranges()
    assert [member.number for member in one.members] == [0, 1, 2, 3]
    assert one.next_number == 4
    assert describe(None, one).kind == "first"


def test_founders_may_be_members_with_weights_and_racks():
    heavy = [Member("a", 7, "h:1", weight=2.0, rack="x"), Member("b", 7, "h:2", rack="y")]
    one = first_map("lab", heavy, replication=1, range_count=64)
    assert [member.weight for member in one.members] == [2.0, 1.0]
    assert len(one.held_by("a")) in {42, 43}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([], 3, 256), "at least one member"),
        ((founders(2) * 2, 3, 256), "listed twice"),
        ((founders(2), 0, 256), "replication 0"),
        ((founders(2), 3, 100), "power of two"),
        ((founders(2), 3, 0), "power of two"),
        ((founders(2), 3, 32768), "power of two"),
        (([("a", "")], 3, 256), "an address"),
        (([Member("a", 0, "h:1", weight=-1.0)], 3, 256), "weight -1.0 of a"),
    ],
)
def test_an_impossible_first_map_is_refused(arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        first_map("lab", *arguments)


# ---------------------------------------------------------------- join


def test_a_joining_member_gets_its_share_and_only_its_ranges_become_joint():
    old = cluster(3, range_count=256)
    new = join(old, "server4", "h:4", client_address="c:4")
    assert new.epoch == old.epoch + 1
    assert new.member("server4") == Member("server4", 3, "h:4", "c:4")
    assert new.next_number == 4
    assert len(new.held_by("server4")) == 192
    for was, now in zip(old.ranges, new.ranges, strict=True):
        assert set(now.replicas) == set(was.replicas)
        assert now.is_joint == ("server4" in now.target)
    what = describe(old, new)
    assert (what.kind, what.subject, what.moved_copies, what.minimum_copies) == (
        "join",
        "server4",
        192,
        192,
    )
    for move in what.moves:
        state = new.ranges[move.range]
        assert move.target == "server4"
        assert set(move.source_candidates) == set(state.replicas)
        assert move.source_candidates[0] not in state.next  # the one that is replaced


def test_two_joins_at_once_end_where_two_joins_in_turn_would_be_balanced():
    both = settled(join(join(cluster(3), "server4", "h:4"), "server5", "h:5"))
    assert not both.joint_ranges()
    held = [len(both.held_by(one)) for one in both.member_ids]
    assert max(held) - min(held) <= 1


def test_a_range_that_gets_its_old_set_back_becomes_stable_again():
    start = cluster(3)
    back = leave(join(start, "server4", "h:4"), "server4")
    assert not back.joint_ranges()
    assert back.member_ids == start.member_ids
    assert [set(state.replicas) for state in back.ranges] == [
        set(state.replicas) for state in start.ranges
    ]
    assert back.next_number == 4  # a number is never given twice


@pytest.mark.parametrize(
    ("arguments", "fields", "sentence"),
    [
        (("server1", "h:9"), {}, "member already"),
        (("server9", ""), {}, "address"),
        (("", "h:9"), {}, "id"),
        (("server9", "h:9"), {"weight": 0.0}, "weight 0.0"),
        (("server9", "h:9"), {"weight": float("inf")}, "weight"),
        (("server9", "h:9"), {"weight": float("nan")}, "weight"),
    ],
)
def test_an_impossible_join_is_refused(arguments, fields, sentence):
    with pytest.raises(UsageError, match=sentence):
        join(cluster(3), *arguments, **fields)


def test_member_numbers_run_out_with_a_sentence():
    one = ClusterMap("lab", 1, 1, (Member("a", 0, "h:1"),), (RangeState(("a",)),), NUMBER_LIMIT)
    with pytest.raises(UsageError, match="used up its 4095"):
        join(one, "b", "h:2")
    with pytest.raises(UsageError, match="used up its 4095"):
        restart(one, "a", "h:2")


# ---------------------------------------------------------------- leave and commit


def test_a_leaving_member_serves_until_its_ranges_are_committed():
    old = cluster(5)
    going = leave(old, "server2")
    assert going.member("server2").leaving
    assert going.held_by("server2") == old.held_by("server2")
    assert all("server2" not in state.target for state in going.ranges)
    what = describe(old, going)
    assert (what.kind, what.subject) == ("leave", "server2")
    assert what.moved_copies == what.minimum_copies == len(old.held_by("server2"))
    half = going.joint_ranges()[::2]
    some = commit(going, half)
    assert some.member("server2") is not None
    done = commit(some, some.joint_ranges())
    assert done.member("server2") is None
    assert not done.joint_ranges()
    what = describe(some, done)
    assert (what.kind, what.subject, what.moved_copies) == ("commit", "server2", 0)


def test_the_last_member_and_strangers_cannot_leave():
    with pytest.raises(UsageError, match="last member"):
        leave(cluster(1), "server1")
    with pytest.raises(UsageError, match="last member"):
        leave(leave(cluster(2), "server1"), "server2")
    with pytest.raises(UsageError, match="not a member"):
        leave(cluster(2), "server9")
    with pytest.raises(UsageError, match="leaving already"):
        leave(leave(cluster(3), "server1"), "server1")


def test_only_moving_ranges_can_be_committed():
    one = join(cluster(3), "server4", "h:4")
    still = next(at for at, state in enumerate(one.ranges) if not state.is_joint)
    with pytest.raises(UsageError, match="not moving"):
        commit(one, [still])
    with pytest.raises(UsageError, match="no range 64"):
        commit(one, [64])
    with pytest.raises(UsageError, match="no range -1"):
        commit(one, [-1])
    with pytest.raises(UsageError, match="no ranges were given"):
        commit(one, [])


# ---------------------------------------------------------------- restart


def test_a_restarted_member_counts_nowhere_until_it_is_refilled():
    old = cluster(4)
    new = restart(old, "server2", "h:22", "c:22")
    member = new.member("server2")
    assert (member.incarnation, member.number, member.address) == (2, 4, "h:22")
    assert new.next_number == 5
    for was, now in zip(old.ranges, new.ranges, strict=True):
        assert "server2" not in now.replicas
        if "server2" in was.replicas:
            assert now.next == was.replicas
        else:
            assert now == was
    assert lost_ranges(old, new) == ()
    what = describe(old, new)
    assert (what.kind, what.subject) == ("restart", "server2")
    assert what.moved_copies == what.minimum_copies == len(old.held_by("server2"))
    assert [state.replicas for state in settled(new).ranges] == [
        state.replicas for state in old.ranges
    ]


def test_a_restart_while_joining_changes_only_the_incarnation():
    old = join(cluster(3), "server4", "h:4")
    new = restart(old, "server4", "h:44")
    assert new.ranges == old.ranges
    assert new.member("server4").incarnation == 2


def test_the_only_copy_that_restarts_is_lost_and_says_so():
    old = cluster(3, replication=1)
    mine = old.held_by("server1")
    new = restart(old, "server1", "h:1")
    assert new.ranges == old.ranges  # stable: there is nobody to refill from
    assert lost_ranges(old, new) == mine
    safe = cluster(3, replication=2)
    assert lost_ranges(safe, restart(safe, "server1", "h:1")) == ()


def test_copies_that_restart_one_after_the_other_without_refill_are_lost():
    two = cluster(2, replication=2)
    once = restart(two, "server1", "h:1")
    twice = restart(once, "server2", "h:2")
    assert lost_ranges(once, twice) == tuple(range(64))
    assert all(set(state.replicas) == {"server1", "server2"} for state in twice.ranges)


def test_a_leaver_that_restarts_has_lost_what_only_it_held():
    old = leave(cluster(2, replication=1), "server1")
    mine = old.held_by("server1")
    new = restart(old, "server1", "h:1")
    assert lost_ranges(old, new) == mine
    assert all(state.replicas == ("server2",) for state in new.ranges)
    assert commit(new, []).member_ids == ("server2",)


# ---------------------------------------------------------------- abort


def test_an_aborted_join_restores_what_was():
    start = cluster(4)
    joining = join(start, "server5", "h:5")
    back = abort(joining, "server5")
    assert back.member_ids == start.member_ids
    assert not back.joint_ranges()
    assert [set(one.replicas) for one in back.ranges] == [set(one.replicas) for one in start.ranges]
    what = describe(joining, back)
    assert (what.kind, what.subject, what.moved_copies) == ("abort", "server5", 0)


def test_a_join_that_is_aborted_half_way_gives_back_what_it_got():
    joining = join(cluster(4), "server5", "h:5")
    half = commit(joining, joining.joint_ranges()[:10])
    back = abort(half, "server5")
    assert all("server5" not in state.target for state in back.ranges)
    assert len(back.held_by("server5")) == 10
    assert settled(back).member_ids == ("server1", "server2", "server3", "server4")


def test_an_aborted_leave_restores_what_was():
    start = cluster(4)
    back = abort(leave(start, "server2"), "server2")
    assert not back.joint_ranges()
    assert not back.member("server2").leaving
    assert [set(one.replicas) for one in back.ranges] == [set(one.replicas) for one in start.ranges]


def test_a_settled_member_has_nothing_to_abort():
    with pytest.raises(UsageError, match="neither joining nor leaving"):
        abort(cluster(3), "server1")
    moving = join(cluster(3), "server4", "h:4")
    with pytest.raises(UsageError, match="neither joining nor leaving"):
        abort(moving, "server1")


def test_the_join_of_the_only_one_who_stays_cannot_be_undone():
    one = leave(join(cluster(1), "server2", "h:2"), "server1")
    with pytest.raises(UsageError, match="last member"):
        abort(one, "server2")


# ------------------------------------------------------------------ at once


@pytest.mark.parametrize("count", [4, 5, 7])
def test_a_join_and_a_leave_at_once_move_the_least(count):
    old = cluster(count)
    one_by_one = leave(join(old, "newcomer", "h:9"), old.member_ids[1])
    new = at_once(old, one_by_one)

    told = describe(old, new)
    assert told.moved_copies == told.minimum_copies
    assert told.moved_copies < describe(old, one_by_one).moved_copies
    assert (new.members, new.epoch) == (one_by_one.members, one_by_one.epoch)
    after = settled(new)
    assert old.member_ids[1] not in after.member_ids
    assert abs(len(after.held_by("newcomer")) - len(old.held_by(old.member_ids[1]))) <= 1


def test_one_step_and_a_member_that_came_back_empty_stay_as_they_are():
    old = cluster(5)
    joined = join(old, "newcomer", "h:9")
    assert at_once(old, joined) is joined
    back = restart(leave(old, old.member_ids[1]), old.member_ids[2], "h:9")
    assert at_once(old, back) is back


def test_who_came_back_empty_and_left_is_not_put_back_into_ranges():
    # Seed 1248: it stood in ranges of the old map, and was no member of the new one any more.
    old = leave(cluster(5), "server5")
    back = restart(old, "server5", "h:9")
    dropped = leave(back, "server4")
    assert dropped.member("server5") is None

    new = at_once(old, dropped)

    assert {one for place in new.ranges for one in place.writers} <= set(new.member_ids)


# ---------------------------------------------------------------- who is missing


def test_who_was_replaced_as_dead_is_missing_until_it_comes_back_or_is_forgotten():
    gone = settled(leave(cluster(4), "server4", dead=True))

    assert gone.member("server4") is None
    assert gone.missing == ("server4",)
    assert ClusterMap.from_builtins(gone.to_builtins()) == gone
    assert join(gone, "server5", "h:5").missing == ("server4",)
    assert join(gone, "server4", "h:4").missing == ()
    assert forget(gone, "server4").missing == ()
    with pytest.raises(UsageError, match="server5 is not missing"):
        forget(gone, "server5")


def test_who_left_of_its_own_accord_is_not_missing():
    assert settled(leave(cluster(4), "server4")).missing == ()
