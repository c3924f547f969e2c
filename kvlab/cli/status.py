"""The verbs that look at a cluster: status and logs. They change nothing."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Self

import typer

from kvlab.cli import out
from kvlab.cli.cluster import Cluster
from kvlab.cli.options import DEFAULT_FILE, Addr, File, Json
from kvlab.errors import UsageError

WATCH_INTERVAL_S = 1.0
FOLLOW_INTERVAL_S = 0.2
TAIL_LINES = 100
LOG_BYTES_MAX = 8 << 20  # of each node's log: older lines are in the file itself
CLEAR_SCREEN = "\x1b[H\x1b[2J"


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    for verb in (status, logs):
        app.command(verb.__name__)(verb)


def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every second.")] = False,
    addr: Addr = "",
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Show every node: state, process, data, peers it misses.

    Examples:
      kvlab status
      kvlab status --watch
      kvlab status --json
      kvlab status --addr localhost:8081
    """
    cluster = Cluster(file, addr)
    while True:
        answer = cluster.status()
        if json:
            out.show_json(answer)
        else:
            _show_status(answer, clear=watch and sys.stdout.isatty())
        if not watch:
            return
        time.sleep(WATCH_INTERVAL_S)


def _show_status(answer: dict[str, Any], *, clear: bool) -> None:
    from kvlab.report.status import status_table

    if clear:
        print(CLEAR_SCREEN, end="")
    out.show(status_table(answer))
    down = [
        node["id"] for node in answer["nodes"] if node["state"] in {"stopped", "crashed", "failed"}
    ]
    paused = [node["id"] for node in answer["nodes"] if node["state"] == "paused"]
    if answer["faults"]:
        out.next_step("kvlab faults", "kvlab heal")
    elif paused:
        out.next_step(f"kvlab resume {','.join(paused)}")
    elif down:
        out.next_step(f"kvlab start {','.join(down)}", f"kvlab logs {down[0]}")
    else:
        out.next_step("kvlab ring" if answer.get("is_ours", True) else "kvlab kill one")


def logs(
    nodes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NODE]...", help="Whose logs; all nodes if none is named."),
    ] = None,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-F", help="Wait for more lines; end with Ctrl-C.")
    ] = False,
    tail: Annotated[
        int, typer.Option("--tail", "-n", min=0, help="The last N lines.")
    ] = TAIL_LINES,
    file: File = DEFAULT_FILE,
) -> None:
    """Show the logs of one node or of all, merged by time.

    Examples:
      kvlab logs
      kvlab logs server2 --tail 20
      kvlab logs --follow
    """
    from kvlab.report.logs import merge_lines, prefixed

    paths = _log_paths(file, nodes or [])
    width = max(map(len, paths))
    with contextlib.ExitStack() as opened:
        sources = {name: opened.enter_context(_Tail(path)) for name, path in paths.items()}
        merged = merge_lines({name: source.read() for name, source in sources.items()})
        for line in prefixed(merged[-tail:] if tail else [], width):
            out.say(line)
        while follow:
            time.sleep(FOLLOW_INTERVAL_S)
            fresh = merge_lines({name: source.read() for name, source in sources.items()})
            for line in prefixed(fresh, width):
                out.say(line)


def _log_paths(file: Path, nodes: list[str]) -> dict[str, Path]:
    """Return node id -> log file, of the running cluster or of the last one of this file."""
    from kvlab.cli.cluster import state_directory

    directory = state_directory(file)
    known = sorted(path.parent.name for path in directory.path.glob("nodes/*/log"))
    if not known:
        raise UsageError(f"there are no logs in {directory.path}", hint="kvlab up")
    wanted = [name for text in nodes for name in text.split(",")] or known
    for name in wanted:
        if name not in known:
            raise UsageError(f"there is no log of {name}", hint=f"there are: {', '.join(known)}")
    return {name: directory.node_log(name) for name in wanted}


class _Tail:
    """Reads the whole lines that were added to a file since the last call."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._rest = b""
        if path.stat().st_size > LOG_BYTES_MAX:
            self._file.seek(-LOG_BYTES_MAX, os.SEEK_END)
            self._file.readline()  # the rest of a line whose start we skipped

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self) -> list[str]:
        """Return the new lines; the start of an unfinished one waits for its end."""
        whole, newline, self._rest = (self._rest + self._file.read()).rpartition(b"\n")
        return whole.decode(errors="backslashreplace").split("\n") if newline else []
