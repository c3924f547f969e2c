"""The verbs that act on the network between nodes: partition, link, heal, faults.

They parse and show; the supervisor's shims do the harm.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kvlab.cli import out
from kvlab.cli.cluster import call
from kvlab.cli.options import DEFAULT_FILE, File, Json
from kvlab.errors import UsageError

PARTITION_MODES = ("hold", "reset")


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    for verb in (partition, link, heal, faults):
        app.command(verb.__name__)(verb)


def partition(
    groups: Annotated[
        list[str] | None,
        typer.Argument(metavar="[GROUPS]", help='Groups as "server1,server2 | server3".'),
    ] = None,
    *,
    source: Annotated[
        str, typer.Option("--from", help="One way: cut what these nodes send ...")
    ] = "",
    target: Annotated[str, typer.Option("--to", help="... to these nodes.")] = "",
    mode: Annotated[
        str,
        typer.Option(
            "--mode", help="hold: bytes wait until heal; reset: connections break and are refused."
        ),
    ] = "hold",
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Cut the network between groups of nodes, or one way.

    Quote the groups: the shell would take a bare | for a pipe. Nodes that are not named form a
    group of their own.

    Examples:
      kvlab partition server1
      kvlab partition "server1,server2 | server3"
      kvlab partition "server1 | server2 | server3" --mode reset
      kvlab partition --from server1 --to server2,server3
    """
    if mode not in PARTITION_MODES:
        raise UsageError(f"--mode {mode} is not known", hint="write --mode hold or --mode reset")
    args = partition_args(" ".join(groups or []), source, target)
    answer = call(file, "partition", {**args, "mode": mode})
    if json:
        out.show_json(answer)
        return
    from kvlab.report.faults import cut_table

    out.show(cut_table(answer["cut"]))
    out.next_step("kvlab faults", "kvlab heal")


def partition_args(groups: str, source: str, target: str) -> dict[str, Any]:
    """Return the `groups`, `from` and `to` of a partition request; raise UsageError."""
    example = 'write kvlab partition "server1,server2 | server3", or --from server1 --to server2'
    if groups.strip():
        if source or target:
            raise UsageError("groups and --from/--to exclude each other", hint=example)
        split = [_ids(group) for group in groups.split("|")]
        if not all(split):
            raise UsageError(f"{groups!r} has an empty group", hint=example)
        return {"groups": split, "from": None, "to": None}
    if not source or not target:
        raise UsageError("nothing to cut is named", hint=example)
    return {"groups": None, "from": _ids(source), "to": _ids(target)}


def link(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The node that sends.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The node that receives.")],
    *,
    latency: Annotated[str, typer.Option(help="Delay of every chunk, as 50ms.")] = "",
    jitter: Annotated[str, typer.Option(help="Spread around the delay, as 10ms.")] = "",
    bandwidth: Annotated[str, typer.Option(help="At most so much, as 10mbit or 2mb/s.")] = "",
    both: Annotated[bool, typer.Option("--both", help="The way back too.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Make the link clean again.")] = False,
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Make the link from one node to another slow, or clean again.

    Examples:
      kvlab link server1 server2 --latency 50ms --jitter 10ms
      kvlab link server1 server2 --bandwidth 10mbit --both
      kvlab link server1 server2 --reset
    """
    rule = link_rule(latency=latency, jitter=jitter, bandwidth=bandwidth, reset=reset)
    answer = call(file, "link", {"from": source, "to": target, "both": both, **rule})
    if json:
        out.show_json(answer)
        return
    from kvlab.report.faults import link_names

    given = {"latency": latency, "jitter": jitter, "bandwidth": bandwidth}
    said = ", ".join(f"{name} {text}" for name, text in given.items() if text)
    out.say(f"{link_names(answer['links'])}: {said or 'as the others again'}")
    out.next_step("kvlab faults", "kvlab heal")


def link_rule(*, latency: str, jitter: str, bandwidth: str, reset: bool) -> dict[str, Any]:
    """Return the rule of a link request; raise UsageError when it says nothing or nonsense."""
    from kvlab.units import UnitError, parse_bandwidth, parse_duration

    given = {"--latency": latency, "--jitter": jitter, "--bandwidth": bandwidth}
    named = [option for option, text in given.items() if text]
    if reset:
        if named:
            raise UsageError(f"--reset and {named[0]} exclude each other", hint="give one of them")
        return {"reset": True}
    if not named:
        hint = "write --latency 50ms, --bandwidth 10mbit or --reset"
        raise UsageError("no rule is given for the link", hint=hint)
    rule: dict[str, Any] = {}
    try:
        if latency:
            rule["latency_us"] = parse_duration(latency)
        if jitter:
            rule["jitter_us"] = parse_duration(jitter)
        if bandwidth:
            rule["bandwidth_bps"] = parse_bandwidth(bandwidth)
    except UnitError as error:
        raise UsageError(str(error)) from error
    return rule


def heal(*, file: File = DEFAULT_FILE, json: Json = False) -> None:
    """Undo every fault of the network.

    Examples:
      kvlab heal
      kvlab heal -f other/cluster.yaml
    """
    answer = call(file, "heal")
    if json:
        out.show_json(answer)
        return
    count = answer["healed"]
    out.say(f"healed {count} fault{'s' * (count != 1)}" if count else "nothing was broken")
    out.next_step("kvlab status")


def faults(*, file: File = DEFAULT_FILE, json: Json = False) -> None:
    """Show active faults with proof, and what each link carries.

    Examples:
      kvlab faults
      kvlab faults --json
    """
    answer = call(file, "faults")
    if json:
        out.show_json(answer)
        return
    from kvlab.report.faults import faults_table, links_table

    out.show(faults_table(answer), links_table(answer))
    out.next_step("kvlab heal" if answer["faults"] else 'kvlab partition "server1 | server2"')


def _ids(text: str) -> list[str]:
    return [name for name in text.replace(",", " ").split() if name]
