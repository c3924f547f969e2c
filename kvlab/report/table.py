"""A table as a value, with its two faces: plain text for pipes and rich for terminals.

It knows nothing of clusters, and it never writes anywhere.

Invariants:

1. The plain face has no box drawing, no colour and no cut cells, whatever the width of the window.
2. A plain row has as many cells as the header, so `awk` finds the same column on every line:
   an empty cell is written "-".
3. Both faces show the same cells, except that a terminal gets `decoration` columns, and loses
   those that say nothing (`quiet`) or, where it is too narrow, those of the highest `rank`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

EMPTY = "-"
BAR_CELLS = 12  # width of a full bar, in character cells
_GAP = "  "
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, which side it leans to, and how a terminal colours its cells."""

    title: str
    right: bool = False
    style: str = ""  # rich style of the whole column
    styles: Mapping[str, str] = field(default_factory=dict)  # cell text -> rich style
    decoration: bool = False  # bars and the like: only on a terminal
    quiet: str | None = None  # a terminal hides a column where every cell is this or empty
    rank: int = 0  # a narrow terminal drops the highest first, and never rank 0


@dataclass(frozen=True, slots=True)
class Table:
    """A heading, columns, rows of text cells, and notes below that explain or warn."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), f"{len(row)} cells for {len(self.columns)}"


def table(
    title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], *notes: str
) -> Table:
    """Build a table from any sequences."""
    return Table(title, tuple(columns), tuple(tuple(row) for row in rows), notes)


def plain(value: Table) -> str:
    """Render for a pipe: the title, a header, one line a row, then the notes; no final newline."""
    kept = [i for i, column in enumerate(value.columns) if not column.decoration]
    header = [value.columns[i].title for i in kept]
    body = [[row[i] or EMPTY for i in kept] for row in value.rows]
    widths = [max(len(cells[n]) for cells in [header, *body]) for n in range(len(kept))]
    lines = [value.title] if value.title else []
    if body:
        for cells in [header, *body]:
            padded = [
                cell.rjust(width) if value.columns[i].right else cell.ljust(width)
                for cell, width, i in zip(cells, widths, kept, strict=True)
            ]
            lines.append(_GAP.join(padded).rstrip())
    lines.extend(value.notes)
    return "\n".join(lines)


def rich(value: Table, width: int | None = None) -> RenderableType:
    """Render for a terminal `width` cells wide. Imports rich here: a pipe never needs it."""
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    parts: list[RenderableType] = []
    if value.title:
        parts.append(Text(value.title, style="bold"))
    if value.rows:
        grid = RichTable(box=None, pad_edge=False, padding=(0, len(_GAP), 0, 0))
        kept = _fitting(value, width)
        for column in (value.columns[i] for i in kept):
            grid.add_column(
                column.title,
                justify="right" if column.right else "left",
                style=column.style,
                header_style="dim underline",
                overflow="fold",
            )
        for row in value.rows:
            grid.add_row(
                *(
                    Text(row[i] or EMPTY, style=value.columns[i].styles.get(row[i], ""))
                    for i in kept
                )
            )
        parts.append(grid)
    parts.extend(Text(note) for note in value.notes)
    return Group(*parts)


def _fitting(value: Table, width: int | None) -> list[int]:
    """Return the columns that a terminal of this width shows."""
    kept = [i for i in range(len(value.columns)) if _speaks(value, i)]
    sizes = {
        i: max(len(value.columns[i].title), *(len(row[i] or EMPTY) for row in value.rows))
        for i in kept
    }
    while width is not None and sum(sizes[i] + len(_GAP) for i in kept) - len(_GAP) > width:
        last = max(kept, key=lambda i: (value.columns[i].rank, i))
        if not value.columns[last].rank:
            break
        kept.remove(last)
    return kept


def _speaks(value: Table, i: int) -> bool:
    quiet = value.columns[i].quiet
    return quiet is None or any(row[i] not in {"", quiet} for row in value.rows)


def bar(share: float, full: float, cells: int = BAR_CELLS) -> str:
    """Draw `share` of `full` as a bar of at most `cells` character cells, in eighths of a cell."""
    if full <= 0:
        return ""
    eighths = round(min(max(share / full, 0.0), 1.0) * cells * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")
