from __future__ import annotations

from kvlab.report.lanes import lanes_lines, lanes_text

ROWS = [
    (0, "start", "server1", "", "life 1"),
    (0, "start", "server10", "", "life 1"),
    (0, "start", "server2", "", "life 1"),
    (20_000, "connect", "server2", "server1", "refuse"),
    (501_200, "data", "c1", "server1", "SET k1 v1"),
    (501_530, "data", "server1", "server10", "turn e2 group 7 1 op (write k1 v1 @0.501200/1)"),
    (900_000, "fault", "", "", "partition server1 | server2,server10 (hold)"),
    (910_044, "hold", "server1", "server2", "turn e2 ack 5"),
    (12_000_000, "wrong", "", "", "crashes: server1 raised\nTraceback"),
    (12_000_001, "log", "server2", "", "no link to \x1b[31mserver1"),
]


def test_each_event_has_a_line_and_each_host_a_lane() -> None:
    expected = """\
s1 server1, s2 server2, s10 server10
time         s1   s2   s10  c1   kind      what
   0.000000  *    |    |    |    start     life 1
   0.000000  |    |    *    |    start     life 1
   0.000000  |    *    |    |    start     life 1
   0.020000  x----o    |    |    connect   refuse
   0.501200  <--------------o    data      SET k1 v1
   0.501530  o--------->    |    data      turn e2 group 7 1 op (write k1 v1 @0.501200/1)
   0.900000  ================    fault     partition server1 | server2,server10 (hold)
   0.910044  o----x    |    |    hold      turn e2 ack 5
  12.000000  !!!!!!!!!!!!!!!!    wrong     crashes: server1 raised…
  12.000001  |    *    |    |    log       no link to ?[31mserver1"""

    assert lanes_text(ROWS) == expected


def test_words_are_cut_at_the_width() -> None:
    lines = list(lanes_lines(ROWS, width=72))

    assert max(map(len, lines[1:])) == 72
    assert lines[7].endswith("turn e2 group 7 1 op (write …")


def test_words_keep_some_room_however_many_hosts_there_are() -> None:
    rows = [(n, "data", f"server{n}", f"c{n}", "x" * 100) for n in range(1, 40)]
    lines = list(lanes_lines(rows, width=100))

    assert all(line.endswith("x" * 23 + "…") for line in lines[2:])


def test_names_that_would_look_alike_are_written_out() -> None:
    rows = [(0, "data", "server1", "store1", "a"), (1, "data", "me", "alpha-3", "b")]
    lines = list(lanes_lines(rows))

    assert lines[0].split()[1:-2] == ["alpha-3", "me", "server1", "store1"]


def test_lanes_can_be_given() -> None:
    row = (1, "data", "server2", "server1", "a")
    lines = list(lanes_lines([row, (2, "log", "elsewhere", "", "b")], hosts=("server2", "server1")))

    assert lines[2:] == [
        "   0.000001  o--->   data      a",
        "   0.000002  |   |   log       b",
    ]


def test_nothing_is_a_header() -> None:
    assert lanes_text([]) == "time             kind      what"
