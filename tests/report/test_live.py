from __future__ import annotations

from io import StringIO

from kvlab.report.live import LiveRun, live_text, live_view
from tests.report.run_files import FAULTS, operation, tiny_events


def live(**more):
    given = {"name": "tiny", "seed": 7, "time_us": 3_000_000, "columns": 30}
    phases = (("calm", 0, 1_000_000), ("trouble", 1_000_000, 3_000_000))
    return LiveRun(**{**given, "phases": phases, **more})


def fed(run, events, faults=()):
    for event in events:
        run.event(event)
    for line in faults:
        run.fault(line)
    return run


def test_rates_stand_in_the_columns_in_which_operations_ended() -> None:
    run = fed(live(), tiny_events())

    assert run.operations == 5
    assert run.columns[1].counts == {"ok": 1, "fail": 0, "info": 0}
    assert run.columns[1].took_us == [2000]
    assert run.columns[20].counts["fail"] == 1
    assert run.per_s("ok", 250_000) == 10.0
    assert run.spark("ok", 250_000) == "▁██" + " " * 27
    assert [run.phase(us) for us in (0, 1_000_000, 3_000_001)] == ["calm", "trouble", "the end"]


def test_it_never_says_that_all_is_well() -> None:
    run = fed(live(), tiny_events())

    assert run.so_far() == "nothing wrong seen in 1 reads; the verdict is for the end"


def test_a_value_that_nobody_had_written_is_wrong_whatever_follows() -> None:
    run = fed(
        live(), [*operation(1, 0, 10, f="get", value="v9"), *operation(2, 20, 10, value="v9")]
    )

    assert run.so_far().startswith("WRONG: a get of k1 by c1 at 0.000 s returned 'v9'")
    assert live_text(run, 100)[1][1] == "bold red"


def test_values_that_the_store_makes_itself_are_not_looked_at() -> None:
    run = fed(
        live(),
        [*operation(1, 0, 10, f="incr", value="1"), *operation(2, 20, 10, f="get", value="1")],
    )

    assert run.reads == 0
    assert not run.wrong


def test_a_lane_shows_who_suffers_now_and_what_was_not_done_has_none() -> None:
    run = fed(live(), [], FAULTS)
    lanes = {kind: (row, active) for kind, row, active in run.lanes(1_200_000)}

    assert lanes["kill"] == ("·" * 10 + "■" * 3 + " " * 17, "server2")
    assert run.lanes(1_600_000)[0][2] == ""
    assert "pause" not in lanes
    run.fault({**FAULTS[0], "undone_us": 1_250_000})
    assert run.lanes(1_300_000)[0][2] == "", "a later line of the same fault replaces the first"


def test_nodes_are_as_the_diary_of_the_laboratory_has_them() -> None:
    run = live()
    for kind in ("start", "ready", "paused", "stopped", "port-let-go"):
        run.diary({"kind": kind, "node": "server1", "detail": ""})
    run.diary({"kind": "up", "node": "", "detail": ""})

    assert run.nodes == {"server1": "down"}


def test_the_view_fits_a_terminal_line_by_line() -> None:
    from rich.console import Console

    run = fed(live(), tiny_events(), FAULTS)
    run.diary({"kind": "ready", "node": "server1"})
    console = Console(width=60, record=True, file=StringIO())
    console.print(live_view(run, 1_200_000))
    shown = console.export_text().splitlines()

    assert len(shown) == 2 + 4 + 2 + 1
    assert all(len(line) <= 60 for line in shown)
    assert shown[-1] == "nodes      server1 running"
