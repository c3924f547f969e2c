from __future__ import annotations

import json

from kvlab.lab.load_result import Latencies, LoadResult, NodeShare
from kvlab.report.bench import tables, to_builtins, warnings
from kvlab.report.table import plain


def result(**changes) -> LoadResult:
    fields = {
        "elapsed_us": 2_000_000,
        "ok": 19_000,
        "missing": 1_000,
        "service": Latencies([100, 2_000], [19_000, 1_000]),
        "nodes": {"server1": NodeShare(15_000, 2, 5), "server2": NodeShare(5_000, 0, 5)},
        "errors": {"timeout": 2},
    }
    return LoadResult(**(fields | changes))


def text(some: LoadResult) -> str:
    return "\n".join(plain(one) for one in tables(some, "the title"))


def test_the_tables_say_rate_errors_percentiles_and_shares():
    shown = text(result())
    assert "10,000" in shown
    assert "service (from send)" in shown
    assert "2.00 ms" in shown
    assert "75.0%" in shown
    row = next(line for line in shown.splitlines() if line.startswith("timeout"))
    assert row.split() == ["timeout", "2", "maybe"]


def test_a_closed_loop_shows_no_response_times_and_an_open_one_does():
    assert "response" not in text(result())
    part = Latencies([5], [1])
    shown = text(result(response=part, lateness=part, not_issued=4))
    assert "response (from intended time)" in shown
    assert "not issued" in shown


def test_few_requests_hide_p999_and_say_why():
    few = result(ok=10, missing=0, service=Latencies([100], [10]))
    assert "p99.9 is shown from 10,000 requests on" in text(few)
    row = next(line for line in text(few).splitlines() if line.startswith("service"))
    assert row.endswith("-  100 us")
    assert row.count(" - ") == 2


def test_warnings_are_plain_and_only_where_due():
    assert warnings(result()) == []
    assert "bottleneck" in warnings(result(generator_busy=0.97))[0]
    late = Latencies([9000], [1])
    found = warnings(result(response=late, lateness=late, not_issued=3, generator_busy=0.97))
    assert [("late" in w, "never sent" in w) for w in found] == [(True, False), (False, True)]
    assert "interrupted" in warnings(result(interrupted=True))[0]
    empty = result(ok=0, missing=0, service=Latencies())
    assert "no latencies" in warnings(empty)[0]
    assert text(empty)


def test_the_json_form_is_json_and_complete():
    document = json.loads(json.dumps(to_builtins(result())))
    assert document["per_second"] == 10_000
    assert document["service"]["p50_us"] == 100
    assert document["service"]["p999_us"] == 2000
    assert document["response"] is None
    assert document["errors"] == {"timeout": 2}
    assert document["nodes"]["server1"] == {"answered": 15_000, "errors": 2, "connects": 5}
