from __future__ import annotations

from kvlab.report.plan import change_text, plan_nodes_table, plans_table
from kvlab.report.table import plain
from kvlab.ring.plan import compare, plan

NODES = ["server1", "server2", "server3"]


def test_a_change_is_said_in_one_line() -> None:
    assert change_text(plan(NODES, add=2)) == "3 nodes -> 5 (+server4 +server5)"
    assert change_text(plan(NODES, remove=["server2"])) == "3 nodes -> 2 (-server2)"


def test_every_placement_has_a_row() -> None:
    plans = compare(NODES, add=1)
    lines = plain(plans_table(plans)).splitlines()

    assert lines[0] == "3 nodes -> 4 (+server4): 10,000 sample keys x 3 copies"
    assert [line.split()[0] for line in lines[2:]] == [one.placement for one in plans]
    assert len({len(line.split()) for line in lines[2:]}) == 1


def test_the_nodes_of_a_plan_show_who_joins_and_who_leaves() -> None:
    joined = plain(plan_nodes_table(plan(NODES, add=1))).splitlines()
    left = plain(plan_nodes_table(plan([*NODES, "server4"], remove=["server1"]))).splitlines()

    assert joined[5].split()[:4] == ["server4", "joins", "25.0%", "-"]
    assert left[2].split()[:3] == ["server1", "leaves", "-"]


def test_a_plan_by_claim_names_the_provable_minimum() -> None:
    one = plan(NODES, add=1)
    assert one.ranges is not None
    note = plain(plan_nodes_table(one)).splitlines()[-1]

    moved = one.ranges.movement
    assert f"moves {moved.copies} copies of ranges" in note
    assert note.endswith(f"minimum is {moved.minimum_copies}")


def test_a_plan_of_keys_of_a_cluster_is_not_called_a_sample() -> None:
    sampled = plan(NODES, add=1, placement="tokens")

    assert "sample keys" in plain(plans_table([sampled]))
