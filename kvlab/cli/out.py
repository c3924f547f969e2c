"""Where the verbs write: tables, JSON and the last line on stdout, progress on stderr.

It decides only between the two faces of a table: rich on a terminal, plain in a pipe.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from kvlab.report.table import Table, plain, rich

EXIT_PIPE_CLOSED = 141  # what a shell reports for a process that SIGPIPE ended


def show(*tables: Table) -> None:
    """Write tables, with an empty line between them."""
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console(highlight=False)
        for i, table in enumerate(tables):
            if i:
                console.print()
            console.print(rich(table, console.width))
    else:
        say("\n\n".join(plain(table) for table in tables))


def show_json(value: object) -> None:
    """Write one JSON document, indented, and nothing else."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """Write a line of text on stdout; leave quietly when nobody reads it any more."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        close_quietly()
        raise SystemExit(EXIT_PIPE_CLOSED) from None


def next_step(*steps: str) -> None:
    """Write the last line: what to do next."""
    say(f"next: {' or '.join(steps)}")


def progress(note: str) -> None:
    """Write one line about long work in hand; stdout stays clean for the result."""
    print(note, file=sys.stderr, flush=True)


def show_progress(document: Mapping[str, Any]) -> None:
    """Write a progress document of the supervisor."""
    progress(progress_text(document))


def progress_text(document: Mapping[str, Any]) -> str:
    """Say a progress document in one line: its text, or its fields as "name value" pairs."""
    for name in ("text", "note", "message"):
        if document.get(name):
            return str(document[name])
    return ", ".join(f"{name} {value}" for name, value in document.items())


def close_quietly() -> None:
    """Point stdout at nothing, so that the interpreter's last flush finds no closed pipe."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
