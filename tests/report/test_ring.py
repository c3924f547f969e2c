from __future__ import annotations

import json

import pytest

from kvlab.report.ring import key_balance, range_keys, ring_report, ring_table, spread_table
from kvlab.report.table import plain
from kvlab.ring.cluster_map import ClusterMap, Member, RangeState

S1, S2, S3, S4 = "server1", "server2", "server3", "server4"


def cluster_map(
    ranges: list[RangeState], *, racks: tuple[str, ...] = ("", "", ""), members: int = 3
) -> ClusterMap:
    return ClusterMap(
        cluster="demo",
        epoch=7,
        replication=2,
        members=tuple(Member(f"server{i + 1}", i, f"h:{i}", rack=racks[i]) for i in range(members)),
        ranges=tuple(ranges),
        next_number=members,
    )


STABLE = cluster_map(
    [RangeState((S1, S2)), RangeState((S2, S3)), RangeState((S3, S1)), RangeState((S1, S2))]
)
HELD = {
    S1: {0: (10, 1000), 2: (5, 500), 3: (1, 100)},
    S2: {0: (10, 1000), 1: (4, 400), 3: (1, 100)},
    S3: {1: (4, 400), 2: (5, 500)},
}


def test_the_ring_table_in_a_pipe() -> None:
    expected = """\
demo: epoch 7, 3 nodes, 4 ranges x 2 copies
NODE     MARK  RACK  WEIGHT   FAIR  SLOTS  FIRST  RANGES  ARRIVING  KEYS  KEY SHARE  OFF FAIR    DATA
server1  -     -          1  33.3%  37.5%  50.0%       3         0    16      40.0%    +20.0%  1.56kb
server2  -     -          1  33.3%  37.5%  25.0%       3         0    15      37.5%    +12.5%  1.46kb
server3  -     -          1  33.3%  25.0%  25.0%       2         0     9      22.5%    -32.5%    900b
every range has all its copies on distinct nodes"""

    assert plain(ring_table(ring_report(STABLE, HELD))) == expected


def test_the_spread_table_in_a_pipe() -> None:
    expected = """\
LOAD        MAX/MEAN  MIN/MEAN  VARIATION  FIRST MAX/MEAN
slots held     1.125     0.750      17.7%           1.500
keys held      1.200     0.675      23.2%           1.650"""

    assert plain(spread_table(ring_report(STABLE, HELD))) == expected


def test_an_empty_cluster_is_judged_by_its_slots() -> None:
    report = ring_report(STABLE, {S1: {}, S2: {}, S3: {}})

    assert "+12.5%" in plain(ring_table(report))
    assert "keys held" not in plain(spread_table(report))


def test_a_silent_node_is_named_and_not_counted_as_empty() -> None:
    report = ring_report(STABLE, {S1: HELD[S1], S2: HELD[S2]})
    shown = plain(ring_table(report))

    assert report.silent == (S3,)
    assert "no answer, keys not counted: server3" in shown


def test_ranges_on_their_way_are_counted_where_they_arrive() -> None:
    moving = cluster_map([RangeState((S1, S2), next=(S1, S3)), RangeState((S2, S3))])
    report = ring_report(moving, {})

    assert dict(report.arriving) == {S3: 1}
    assert "1 ranges are moving" in plain(ring_table(report))


def test_missing_copies_and_crowded_racks_are_counted() -> None:
    crowded = cluster_map([RangeState((S1, S2)), RangeState((S1,))], racks=("a", "a", "b"))
    report = ring_report(crowded, {})

    assert (report.short_ranges, report.crowded_ranges, report.racks) == (1, 1, 2)
    shown = plain(ring_table(report))
    assert "1 ranges have fewer copies" in shown
    assert "1 ranges have copies crowded" in shown


def test_owned_keys_are_those_of_the_first_place_as_that_node_holds_them() -> None:
    owned = {one.id: one.owned for one in key_balance(STABLE, HELD).nodes}

    assert owned == {S1: 11, S2: 4, S3: 5}


def test_fair_shares_follow_the_weights() -> None:
    members = (Member(S1, 0, "h:0", weight=3.0), Member(S2, 1, "h:1", weight=1.0))
    heavy = ClusterMap("demo", 1, 1, members, (RangeState((S1,)), RangeState((S2,))), 2)
    nodes = key_balance(heavy, {S1: {0: (60, 0)}, S2: {1: (20, 0)}}).nodes

    assert [pytest.approx(one.ratio) for one in nodes] == [1.0, 1.0]


def test_keys_of_a_range_are_the_most_that_a_node_holds() -> None:
    assert range_keys(STABLE, HELD) == [10, 4, 5, 1]


def test_the_report_is_valid_json() -> None:
    document = json.loads(json.dumps(ring_report(STABLE, HELD).to_builtins()))

    assert document["bytes"] == {S1: 1600, S2: 1500, S3: 900}
    assert document["keys"]["max_over_mean"] == 1.2
