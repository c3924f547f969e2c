from __future__ import annotations

from kvlab.report.faults import cut_table, evidence_text, faults_table, link_names, links_table
from kvlab.report.table import plain

ANSWER = {
    "faults": [
        {"id": 1, "kind": "partition", "detail": "server1 | server2,server3", "since_us": 2_000_000,
         "links": [["server1", "server2"], ["server2", "server1"]],
         "evidence": {"held_bytes": 512, "held_chunks": 4, "refused": 0}},
        {"id": 2, "kind": "latency", "detail": "50ms", "since_us": 1_000_000,
         "links": [["a", "b"]], "evidence": {}},
    ],
    "links": [
        {"from": "server1", "to": "server2", "connections": 2, "bytes": 4096, "held_bytes": 512,
         "refused": 1, "resets": 0, "rule": "hold"},
        {"from": "server2", "to": "server1", "connections": 1, "bytes": 0, "held_bytes": 0,
         "refused": 0, "resets": 0, "rule": ""},
    ],
}  # fmt: skip


def test_the_faults_table_in_a_pipe() -> None:
    expected = """\
2 active faults
FAULT  KIND       DETAIL                     SINCE  LINKS                             EVIDENCE
    1  partition  server1 | server2,server3     2s  server1>server2, server2>server1  held_bytes 512, held_chunks 4
    2  latency    50ms                          1s  a>b                               none yet"""  # noqa: E501

    assert plain(faults_table(ANSWER)) == expected


def test_no_faults_are_said_in_a_line() -> None:
    assert plain(faults_table({"faults": [], "links": []})) == "no active faults"


def test_the_links_table_in_a_pipe() -> None:
    expected = """\
2 links
FROM     TO       CONNECTIONS  PASSED  HELD  REFUSED  RESETS  RULE
server1  server2            2     4kb  512b        1       0  hold
server2  server1            1      0b    0b        0       0  -"""

    assert plain(links_table(ANSWER)) == expected


def test_a_long_list_of_links_ends_in_a_count() -> None:
    links = [["a", str(i)] for i in range(7)]

    assert link_names(links) == "a>0, a>1, a>2, a>3, and 3 more"


def test_a_cut_is_shown_by_sender() -> None:
    cut = [["server1", "server3"], ["server3", "server1"], ["server1", "server2"]]
    expected = """\
cut 3 links
NODE     CANNOT SEND TO
server1  server3, server2
server3  server1"""

    assert plain(cut_table(cut)) == expected


def test_counters_at_zero_are_no_evidence() -> None:
    assert evidence_text({"held_bytes": 0}) == "none yet"
