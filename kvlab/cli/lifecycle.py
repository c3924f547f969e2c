"""The verbs that make and end clusters: up, down, add, remove, reap.

They hold no process themselves: a daemon does, which `up` starts and `down` ends.
"""

from __future__ import annotations

from typing import Annotated

import typer

from kvlab.cli import out
from kvlab.cli.cluster import call, read_spec
from kvlab.cli.options import DEFAULT_FILE, File, Json

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    for verb in (up, down, add, remove, reap):
        app.command(verb.__name__)(verb)


def up(
    *,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin with an empty cluster; its old data is removed.")
    ] = False,
    engine: Annotated[
        str,
        typer.Option(
            help="Run another kind of server: a known name, or module:Class.", hidden=True
        ),
    ] = "",
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Start the cluster of cluster.yaml and wait until it serves.

    It goes on with the data that it had at `kvlab down`, or when its supervisor died, and with the
    members that it had then. Where it runs already, its status is shown and nothing changes.

    Examples:
      kvlab up
      kvlab up --fresh
      kvlab up -f other/cluster.yaml
      kvlab up --json
    """
    from kvlab.lab.daemonize import start_daemon
    from kvlab.lab.security import LabSecurity

    spec = read_spec(file)
    for note in spec.notes:
        out.progress(f"note: {note}")
    LabSecurity.of(spec.security, file.parent).access(lambda line: out.progress(f"warning: {line}"))
    status = start_daemon(file, engine=engine or None, fresh=fresh, on_progress=out.show_progress)
    if json:
        out.show_json(status)
        return
    from kvlab.report.status import status_table

    if status["already"]:
        out.progress(f"note: {status['name']} runs already; nothing was changed")
    out.show(status_table(status))
    out.next_step("kvlab set city Berlin", "kvlab ring" if status["is_ours"] else "kvlab kill one")


def add(
    node: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Its name; the next free one if not given.")
    ] = None,
    *,
    weight: Annotated[
        float | None, typer.Option(help="Its share of the data relative to the others.")
    ] = None,
    rack: Annotated[str | None, typer.Option(help="The rack that it stands in.")] = None,
    wait: Wait = True,
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Start one more node and let data move to it.

    Examples:
      kvlab add
      kvlab add server9 --weight 2 --rack b
      kvlab add --no-wait
    """
    from kvlab.units import format_duration

    args = {"id": node, "weight": weight, "rack": rack, "wait": wait}
    answer = call(file, "add", args)
    if json:
        out.show_json(answer)
        return
    took = format_duration(answer["took_us"])
    said = f"{answer['id']} serves at {answer['host']}:{answer['port']}"
    epoch = answer["epoch"]
    out.say(f"{said}, took {took}" if epoch is None else f"{said}, epoch {epoch}, took {took}")
    out.next_step(*(("kvlab status",) if epoch is None else ("kvlab moves", "kvlab ring")))


def remove(
    node: Annotated[str, typer.Argument(metavar="ID", help="The node that leaves.")],
    *,
    wait: Wait = True,
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Let a node hand over its data, then stop it for good.

    Examples:
      kvlab remove server3
      kvlab remove server3 --no-wait
    """
    from kvlab.units import format_duration

    answer = call(file, "remove", {"id": node, "wait": wait})
    if json:
        out.show_json(answer)
        return
    said = "left" if wait else "is leaving"
    out.say(f"{answer['id']} {said}, took {format_duration(answer['took_us'])}")
    out.next_step(*(("kvlab moves", "kvlab ring") if answer["is_ours"] else ("kvlab status",)))


def down(
    *,
    wipe: Annotated[
        bool, typer.Option("--wipe", help="Remove the data, too, if it runs or not.")
    ] = False,
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Stop the cluster; no process, socket or lock remains.

    Its data stays in .kvlab beside cluster.yaml, and the next `kvlab up` goes on with it. Logs stay in
    any case, so that `kvlab logs` still shows what happened.

    Examples:
      kvlab down
      kvlab down --wipe
    """
    from kvlab.errors import NotRunningError

    try:
        answer = call(file, "down", {"wipe": wipe})
    except NotRunningError:
        if not wipe:
            raise
        from kvlab.lab.daemonize import wipe_data

        answer = {"stopped": [], "keeps": False, "wiped": wipe_data(file)}
    if json:
        out.show_json(answer)
        return
    count = len(answer["stopped"])
    said = f"stopped {count} node{'s' * (count != 1)}: {', '.join(answer['stopped'])}"
    if wipe:
        gone = "no data was there" if answer.get("wiped") is False else "the data is removed"
        said = f"{said}; {gone}" if count else gone
    out.say(said)
    out.next_step("kvlab up", *(("kvlab down --wipe",) if answer["keeps"] else ()))


def reap(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would end.")] = False,
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Find and end what a dead supervisor left behind.

    It never touches a living cluster, nor a process that does not carry kvlab's mark.

    Examples:
      kvlab reap --dry-run
      kvlab reap
    """
    from kvlab.lab.reap import find_leftovers
    from kvlab.lab.reap import reap as end_leftovers
    from kvlab.report.leftovers import leftovers_table

    found = (find_leftovers if dry_run else end_leftovers)(file.resolve().parent)
    processes = [{"pid": one.pid, "name": one.name, "state": one.state} for one in found.processes]
    answer = {"dry_run": dry_run, "processes": processes, "files": found.files}
    if json:
        out.show_json(answer)
        return
    out.show(leftovers_table(answer))
    out.next_step("kvlab reap" if dry_run and found else "kvlab up")
