from __future__ import annotations

import pytest

from kvlab.report.timeline import OPERATIONS_MAX, base_name, timeline_of
from tests.report.run_files import events_of, operation, record_of

KILL = {"kind": "kill", "title": "kill server1", "t_us": 5_000_000, "until_us": 6_000_000}


def columns_of(operations):
    return record_of(events_of(operations), faults=[]).columns


def many(count, clients=4):
    return [
        operation(n, n * 1000, 900, client=f"c{n % clients}", key=f"k{n % 7}") for n in range(count)
    ]


def test_a_small_run_is_shown_whole() -> None:
    found = timeline_of(columns_of(many(100)), [KILL], [], 10_000_000)

    assert len(found.chosen) == 100
    assert (found.left_out, found.windows) == (0, [])
    assert found.lanes == ["c0", "c1", "c2", "c3"]


def test_a_client_keeps_its_lane_when_it_goes_on_under_another_name() -> None:
    operations = [
        operation(1, 0, 10, client="c2"),
        operation(2, 50, 10, client="c2.1"),
        operation(1, 90, 10, client="10.0"),
    ]
    found = timeline_of(columns_of(operations), [], [], 100)

    assert found.lanes == ["c2", "10.0"]
    assert found.lane == [0, 0, 1]
    assert base_name("c2.1", {"c2"}) == "c2"
    assert base_name("c2.1", {"c3"}) == "c2.1"


def test_of_many_operations_those_around_what_matters_are_shown_whole() -> None:
    columns = columns_of(many(20_000))
    proof = int(columns.start[12_345])
    found = timeline_of(columns, [KILL], [proof], 20_000_000)
    whys = [one.why for one in found.windows]

    assert 12_345 in found.chosen
    assert found.windows[found.first].why.startswith("proof: k")
    assert "kill server1 begins" in whys
    assert "kill server1 ends" in whys
    assert len(found.chosen) <= OPERATIONS_MAX
    assert len(found.chosen) + found.left_out == 20_000
    for one, after in zip(found.windows, found.windows[1:], strict=False):
        assert one.until_us <= after.from_us
    chosen = set(found.chosen.tolist())
    for one in found.windows:
        inside = {n for n in range(20_000) if one.from_us <= n * 1000 < one.until_us}
        assert inside <= chosen, "a window is shown whole"


@pytest.mark.parametrize("faults", [[], [KILL] * 200])
def test_however_dense_a_run_is_there_is_something_to_see(faults) -> None:
    operations = [operation(n, n, 2, client=f"c{n % 50}") for n in range(9000)]
    found = timeline_of(columns_of(operations), faults, [], 9000)

    assert 0 < len(found.chosen) <= OPERATIONS_MAX
    assert found.clients_left_out == 10
