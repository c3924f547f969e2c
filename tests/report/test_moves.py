from __future__ import annotations

from typing import Any

from kvlab.report.moves import changes_table, merge_moves, moves_table
from kvlab.report.table import plain

JOIN = {
    "epoch": 2, "change": "join", "subject": "server4", "at_us": 1_000_000, "moved_copies": 3,
    "minimum_copies": 3, "members_before": 3, "members_after": 4,
}  # fmt: skip
LEAVE = {
    "epoch": 9, "change": "leave", "subject": "server1", "at_us": 9_000_000, "moved_copies": 2,
    "minimum_copies": 1, "members_before": 4, "members_after": 4,
}  # fmt: skip


def move(epoch: int, at: int, source: str, target: str, at_us: int) -> dict[str, Any]:
    return {
        "epoch": epoch, "range": at, "from": source, "to": target, "keys": 10, "bytes": 1024,
        "at_us": at_us,
    }  # fmt: skip


ANSWERS = [
    {"changes": [JOIN, LEAVE], "moves": [move(10, 3, "server1", "server2", 9_500_000)]},
    {
        "changes": [JOIN],
        "moves": [
            move(2, 0, "server1", "server4", 1_100_000),
            move(3, 1, "server2", "server4", 1_200_000),
            move(3, 2, "server1", "server4", 1_250_000),
        ],
    },
]


def test_changes_of_several_nodes_are_counted_once_and_get_their_transfers() -> None:
    merged = merge_moves(ANSWERS)

    assert [(one["epoch"], one["copies_received"], one["keys"]) for one in merged["changes"]] == [
        (2, 3, 30),
        (9, 1, 10),
    ]
    assert merged["changes"][0]["took_us"] == 250_000
    assert merged["changes"][1]["took_us"] == 500_000


def test_the_transfers_table_in_a_pipe() -> None:
    expected = """\
transfers
EPOCH  CHANGE         FROM     TO       RANGES  KEYS  DATA
    2  join server4   server1  server4       2    20   2kb
    2  join server4   server2  server4       1    10   1kb
    9  leave server1  server1  server2       1    10   1kb"""

    assert plain(moves_table(merge_moves(ANSWERS))) == expected


def test_the_changes_table_in_a_pipe() -> None:
    expected = """\
2 changes of the ring
EPOCH  CHANGE         NODES  COPIES  MINIMUM  EXCESS  KEYS  K/N  DATA   TOOK
    2  join server4    3->4       3        3       0    30   30   3kb  250ms
    9  leave server1   4->3       2        1       1    10   30   1kb  500ms"""

    assert plain(changes_table(merge_moves(ANSWERS), held_keys=120)) == expected


def test_a_change_that_moved_nothing_is_shown_too() -> None:
    merged = merge_moves([{"changes": [{**JOIN, "moved_copies": 0}], "moves": []}])

    assert merged["changes"][0]["took_us"] is None
    row = plain(moves_table(merged)).splitlines()[-1]
    assert "join server4" in row
    assert row.endswith("0b")


def test_what_nobody_knows_any_more_is_not_shown_as_nothing() -> None:
    # The receivers tell what was moved; they have left.
    merged = merge_moves([{"changes": [JOIN], "moves": []}])

    row = plain(moves_table(merged)).splitlines()[-1]
    assert "join server4" in row
    assert "0" not in row.replace("2", "", 1)


def test_a_transfer_whose_change_nobody_remembers_is_not_lost() -> None:
    merged = merge_moves([{"changes": [LEAVE], "moves": [move(4, 0, "a", "b", 5)]}])

    assert [(one["change"], one["keys"]) for one in merged["changes"]] == [
        ("unknown", 10),
        ("leave", 0),
    ]


def test_a_ring_that_never_changed_says_so() -> None:
    assert plain(changes_table({"changes": []})) == "the ring never changed"


def test_the_steps_of_a_change_are_no_changes_of_their_own() -> None:
    commit = {**JOIN, "epoch": 3, "change": "commit", "moved_copies": 0, "minimum_copies": 0}
    merged = merge_moves([{"changes": [JOIN, commit], "moves": [move(3, 1, "a", "b", 2_000_000)]}])

    assert [(one["change"], one["keys"]) for one in merged["changes"]] == [("join", 10)]


def test_a_node_that_skipped_an_epoch_does_not_count_a_change_twice() -> None:
    commit = {**JOIN, "epoch": 3, "change": "commit", "moved_copies": 0, "minimum_copies": 0}
    skipped = {**JOIN, "epoch": 3}
    answers = [{"changes": [skipped], "moves": []}, {"changes": [JOIN, commit], "moves": []}]

    assert [one["epoch"] for one in merge_moves(answers)["changes"]] == [2]
