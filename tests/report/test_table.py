from __future__ import annotations

import io

from rich.console import Console

from kvlab.report.table import Column, bar, plain, rich, table

NODES = table(
    "demo",
    (Column("NODE"), Column("KEYS", right=True), Column("SHARE", decoration=True), Column("NOTE")),
    [("server1", "1,200", "████", ""), ("server10", "7", "█", "slow")],
    "one note",
)


def on_terminal(value: object, width: int = 200) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=True, color_system=None).print(value)
    return stream.getvalue()


def test_plain_text_is_aligned_without_boxes_and_fills_empty_cells() -> None:
    expected = """\
demo
NODE       KEYS  NOTE
server1   1,200  -
server10      7  slow
one note"""

    assert plain(NODES) == expected


def test_plain_text_is_not_cut_however_wide_it_is() -> None:
    wide = table("", (Column("A"), Column("B")), [("x" * 300, "y" * 300)])

    assert plain(wide).splitlines()[1] == "x" * 300 + "  " + "y" * 300


def test_a_table_without_rows_is_its_title_and_notes() -> None:
    assert plain(table("no links", (Column("FROM"),), [], "note")) == "no links\nnote"


def test_a_terminal_sees_the_same_cells_and_the_decoration() -> None:
    shown = on_terminal(rich(NODES))

    for text in ("demo", "server10", "1,200", "████", "slow", "one note"):
        assert text in shown


def test_a_terminal_hides_columns_that_say_nothing() -> None:
    quiet = table("", (Column("NODE"), Column("MOVING", quiet="0")), [("server1", "0")])
    busy = table("", (Column("NODE"), Column("MOVING", quiet="0")), [("server1", "3")])

    assert "MOVING" not in on_terminal(rich(quiet))
    assert "MOVING" in on_terminal(rich(busy))
    assert "MOVING" in plain(quiet)


def test_a_narrow_terminal_drops_the_highest_ranks_and_never_rank_0() -> None:
    wide = table(
        "",
        (Column("NODE"), Column("LEAST", rank=2), Column("LESS", rank=1), Column("KEPT")),
        [("server1", "x" * 10, "y" * 10, "z" * 10)],
    )

    def titles(width: int) -> list[str]:
        return on_terminal(rich(wide, width), width).splitlines()[0].split()

    assert titles(43) == ["NODE", "LEAST", "LESS", "KEPT"]
    assert titles(42) == ["NODE", "LESS", "KEPT"]
    assert titles(30) == ["NODE", "KEPT"]
    assert titles(12) == ["NODE", "KEPT"]


def test_text_that_looks_like_markup_is_shown_as_it_is() -> None:
    shown = on_terminal(rich(table("", (Column("KEY"),), [("[red]k[/red]",)])))

    assert "[red]k[/red]" in shown


def test_a_bar_grows_with_its_share_and_stops_at_full() -> None:
    lengths = [len(bar(share, 1.0, cells=4)) for share in (0.0, 0.25, 0.5, 1.0, 2.0)]

    assert lengths == [0, 1, 2, 4, 4]
    assert bar(1 / 8, 1.0, cells=4) == "▌"
    assert bar(1, 0) == ""
