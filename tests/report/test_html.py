from __future__ import annotations

import json
import re

import pytest

from kvlab.cli.record import page_of, page_parts
from kvlab.report.html import report_html
from tests.report.run_files import events_of, operation, record_of, tiny_events, verdict_of


def quick_page(record):
    """Return a page without the library of charts, which takes most of the time."""
    return report_html(record, page_parts(""))


def figures_of(page):
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])


def without_library(page):
    return re.sub(r'<script type="application/octet-stream".*?</script>', "", page, flags=re.DOTALL)


@pytest.fixture(scope="module")
def page():
    return page_of(record_of(tiny_events()))


def test_a_page_says_the_verdict_why_and_how_to_repeat_it(page) -> None:
    for said in ("<h1>invalid</h1>", "lost: k1 is lost", "kvlab run tiny --seed 7", "3.11.7",
                 "Why lost is invalid", "1 change of the ring", "join server4",
                 "reset all had no effect", "kill server2"):  # fmt: skip
        assert said in page


def test_a_page_asks_no_network(page) -> None:
    shown = without_library(page)

    assert "default-src 'none'" in shown
    assert not re.search(r"https?:|//[a-z]+\.|\bsrc=|\bhref=|@import|url\(", shown)


def test_a_page_is_not_large(page) -> None:
    assert len(page) < 2_500_000


def test_figures_have_only_what_plotly_knows(page) -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    figures = figures_of(page)

    assert set(figures) == {"overview", "clients", "proof-0", "nodes", "keys", "held"}
    for figure in figures.values():
        plain = json.loads(re.sub(r'"--[a-z-]+"', '"#123456"', json.dumps(figure)))
        graph_objects.Figure(plain)  # raises for an attribute or a value that there is not


def test_faults_rates_and_latencies_share_one_axis_of_time(page) -> None:
    overview = figures_of(page)["overview"]
    axes = {trace.get("xaxis", "x") for trace in overview["data"]}

    assert axes == {"x"}
    assert overview["layout"]["xaxis"]["range"] == [0, 3]
    assert overview["layout"]["yaxis"]["ticktext"] == ["kill", "reset"]


def test_what_proves_a_verdict_is_drawn_to_scale(page) -> None:
    bars = figures_of(page)["proof-0"]["data"]

    assert [one["base"] for one in bars] == [[0.1, 3.1]]
    assert [one["x"] for one in bars] == [[0.002, 0.001]]


def test_texts_of_a_history_cannot_become_markup() -> None:
    evil = "</script><script>alert(1)</script>"
    events = events_of([operation(1, 0, 10, key=evil, value=evil, client=evil, node=evil)])
    verdict = verdict_of(because=evil, reproduce=evil, environment={evil: evil})
    verdict["checks"]["lost"]["because"] = evil
    page = quick_page(record_of(events, verdict=verdict, faults=[]))

    assert "<script>alert" not in page
    for figure in figures_of(page).values():
        assert "<script>" not in json.dumps(figure["layout"])


def test_a_run_that_was_interrupted_is_unknown_and_says_so() -> None:
    page = quick_page(record_of(tiny_events()[:3], verdict={}))

    assert "<h1>unknown</h1>" in page
    assert "was interrupted before it could be judged" in page


def test_a_run_of_nothing_has_a_page_without_charts() -> None:
    page = quick_page(record_of([], verdict=verdict_of("valid"), faults=[], spec=None, ring={}))

    assert figures_of(page) == {}
    assert "<h1>valid</h1>" in page


def test_an_expected_violation_is_called_so() -> None:
    page = quick_page(record_of(tiny_events(), verdict=verdict_of(expect="invalid")))

    assert "(as expected)" in page


def test_of_many_operations_a_page_holds_some_thousands() -> None:
    operations = [
        operation(n, n * 100, 20, client=f"c{n % 8}", key=f"k{n % 9}") for n in range(30_000)
    ]
    slow = operation(1, 1_234_567, 400_000, client="slow")
    page = quick_page(record_of(events_of([*operations, slow])))
    figures = figures_of(page)

    assert len(page) < 1_500_000
    assert sum(len(trace["y"]) for trace in figures["clients"]["data"]) <= 2_500
    dots = [one for one in figures["overview"]["data"] if one.get("mode") == "markers"]
    assert max(us for trace in dots for us in trace["y"]) == 400.0, "the slowest has a dot"
    counted = sum(
        rate * width
        for one in figures["overview"]["data"]
        if one.get("yaxis") == "y2"
        for rate, width in zip(one["y"], [one["width"]] * len(one["y"]), strict=True)
    )
    assert round(counted) == 30_001
