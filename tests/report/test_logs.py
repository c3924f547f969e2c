from __future__ import annotations

from kvlab.report.logs import line_time, merge_lines, prefixed


def test_lines_of_several_nodes_are_merged_by_time() -> None:
    logs = {
        "server1": ["2026-01-01T00:00:01.5Z one", "2026-01-01T00:00:03Z three"],
        "server2": ["2026-01-01T00:00:02Z two"],
    }

    assert [line.split()[1] for _, line in merge_lines(logs)] == ["one", "two", "three"]


def test_a_line_without_a_time_stays_with_the_line_before_it() -> None:
    logs = {
        "server1": ["2026-01-01T00:00:01Z boom", "Traceback ...", "  File x"],
        "server2": ["2026-01-01T00:00:00Z first", "2026-01-01T00:00:02Z last"],
    }
    merged = [line for _, line in merge_lines(logs)]

    assert merged[1:4] == ["2026-01-01T00:00:01Z boom", "Traceback ...", "  File x"]


def test_a_clock_that_steps_back_does_not_reorder_one_node() -> None:
    logs = {"server1": ["2026-01-01T00:00:09Z a", "2026-01-01T00:00:01Z b"]}

    assert [line[-1] for _, line in merge_lines(logs)] == ["a", "b"]


def test_a_time_is_read_in_the_usual_spellings() -> None:
    assert line_time("2026-01-01 00:00:01,123 x") == "2026-01-01T00:00:01.123"
    assert line_time("no time") == ""


def test_each_line_names_its_node() -> None:
    assert prefixed([("a", "x"), ("bcd", "y")], 3) == ["a   | x", "bcd | y"]
