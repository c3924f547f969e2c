from __future__ import annotations

from kvlab.report.compare import compare_runs, compare_tables
from kvlab.report.table import plain
from tests.report.run_files import SPEC, events_of, operation, record_of, tiny_events, verdict_of


def test_a_run_is_like_itself() -> None:
    run = record_of(tiny_events())
    found = compare_runs(run, run)

    assert (found.checks, found.environment, found.settings) == ((), (), ())
    assert {one.ratio for one in found.measures if one.ratio is not None} == {1.0}
    assert [table.title for table in compare_tables(found)] == ["what clients saw, by phase"]


def test_what_differs_is_told_with_its_ratio() -> None:
    slow = events_of(operation(n, n * 100_000, 50_000) for n in range(5))
    fast = events_of(operation(n, n * 50_000, 10_000) for n in range(10))
    valid = verdict_of("valid", because="2 checks hold", environment={"python": "3.12.1"})
    other = SPEC.replace("nodes: 3", "nodes: 5").replace("clients: 2", "clients: 4")
    found = compare_runs(record_of(slow), record_of(fast, verdict=valid, spec=other))
    shown = "\n".join(plain(table) for table in compare_tables(found))

    ratios = {(one.phase, one.name): one.ratio for one in found.measures}
    assert ratios["calm", "ok_per_s"] == 2.0
    assert ratios["calm", "p50_us"] == 0.2
    assert ratios["trouble", "p50_us"] is None, "nothing succeeded there"
    assert found.verdicts == ("invalid", "valid")
    assert [(one.what, one.a, one.b) for one in found.checks] == [
        ("lost", "invalid: k1 is lost", "valid")
    ]
    assert "calm   p50" in shown.replace("calm     p50", "calm   p50")
    assert "workload clients" in shown
    assert {one.what for one in found.environment} == {"python", "world"}


def test_phases_without_a_common_name_are_matched_by_their_place() -> None:
    other = SPEC.replace("calm", "first").replace("trouble", "second")
    run, renamed = record_of(tiny_events()), record_of(tiny_events(), spec=other)
    one_less = record_of(tiny_events(), spec=None)

    names = dict.fromkeys(one.phase for one in compare_runs(run, renamed).measures)
    assert list(names) == ["calm / first", "trouble / second"]
    names = dict.fromkeys(one.phase for one in compare_runs(run, one_less).measures)
    assert list(names) == ["calm", "trouble", "run"]


def test_json_holds_every_figure() -> None:
    run = record_of(tiny_events())
    told = compare_runs(run, run).to_builtins()

    assert told["schema"] == 1
    assert told["measures"][0] == {
        "phase": "calm", "name": "ok_per_s", "a": 2.0, "b": 2.0, "ratio": 1.0
    }  # fmt: skip
