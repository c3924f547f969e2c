"""The verbs that act on nodes: kill, stop, start, restart, pause, resume.

They change nothing themselves: the supervisor acts and answers with proof, which is shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kvlab.cli import out
from kvlab.cli.cluster import call
from kvlab.cli.options import DEFAULT_FILE, File, Json, Seed
from kvlab.errors import UsageError

Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="TARGETS",
        help="Node ids, or one of: one, minority, majority, all.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    for verb in (kill, stop, start, restart, pause, resume):
        app.command(verb.__name__)(verb)


def kill(
    targets: Targets, *, file: File = DEFAULT_FILE, seed: Seed = None, json: Json = False
) -> None:
    """Kill nodes at once, as a crash would (SIGKILL).

    The node stays down until `kvlab start`, whatever cluster.yaml says about restarts.

    Examples:
      kvlab kill server2
      kvlab kill server1,server3
      kvlab kill minority --seed 7
    """
    names = _act("kill", targets, file=file, seed=seed, json=json)
    _next(f"kvlab start {names}", "kvlab status", json=json)


def stop(
    targets: Targets, *, file: File = DEFAULT_FILE, seed: Seed = None, json: Json = False
) -> None:
    """Stop nodes gracefully; they stay stopped.

    Examples:
      kvlab stop server2
      kvlab stop all
    """
    names = _act("stop", targets, file=file, seed=seed, json=json)
    _next(f"kvlab start {names}", "kvlab status", json=json)


def start(
    targets: Targets, *, file: File = DEFAULT_FILE, seed: Seed = None, json: Json = False
) -> None:
    """Start nodes that are stopped or dead.

    Examples:
      kvlab start server2
      kvlab start all
    """
    _act("start", targets, file=file, seed=seed, json=json)
    _next("kvlab status", json=json)


def restart(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TARGETS]",
            help="Node ids, or one of: one, minority, majority, all (what --rolling restarts).",
            show_default=False,
        ),
    ] = None,
    *,
    rolling: Annotated[
        bool,
        typer.Option(
            "--rolling",
            help="One after the other; each waits until all copies are whole again.",
        ),
    ] = False,
    file: File = DEFAULT_FILE,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Stop nodes gracefully and start them again.

    Examples:
      kvlab restart server2
      kvlab restart --rolling                  all, one by one; our clients do not notice
      kvlab restart one --seed 3
    """
    if not targets and not rolling:
        raise UsageError("say which nodes to restart", hint="write, e.g., kvlab restart server2")
    targets = targets or ["all"]
    _act("restart", targets, file=file, seed=seed, json=json, rolling=rolling)
    _next("kvlab status", json=json)


def pause(
    targets: Targets, *, file: File = DEFAULT_FILE, seed: Seed = None, json: Json = False
) -> None:
    """Freeze nodes; their sockets stay open (SIGSTOP).

    Others see a node that accepts connections and never answers.

    Examples:
      kvlab pause server2
      kvlab pause one --seed 3
    """
    names = _act("pause", targets, file=file, seed=seed, json=json)
    _next(f"kvlab resume {names}", "kvlab status", json=json)


def resume(
    targets: Targets, *, file: File = DEFAULT_FILE, seed: Seed = None, json: Json = False
) -> None:
    """Let paused nodes run on (SIGCONT).

    Examples:
      kvlab resume server2
      kvlab resume all
    """
    _act("resume", targets, file=file, seed=seed, json=json)
    _next("kvlab status", json=json)


def _act(
    verb: str, targets: list[str], *, file: Path, seed: int | None, json: bool, **more: Any
) -> str:
    """Let the supervisor act, show its proof, and return the ids it chose as "a,b"."""
    from kvlab.report.status import proof_table

    args = {"targets": ",".join(targets), "seed": seed, **more}
    answer: dict[str, Any] = call(file, verb, args)
    if json:
        out.show_json(answer)
    else:
        out.show(proof_table(answer))
    return ",".join(answer["targets"])


def _next(*steps: str, json: bool) -> None:
    if not json:
        out.next_step(*steps)
