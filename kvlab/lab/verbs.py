"""The verbs of the control socket: their arguments, and what each calls in the laboratory.

It does no I/O of its own; the control server reads and writes the lines. Wrong arguments are a
UsageError that names the field.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from kvlab.errors import UsageError
from kvlab.lab.nodefaults import Proof
from kvlab.lab.supervisor import Lab, Progress


class NoArgs(msgspec.Struct, forbid_unknown_fields=True):
    """A verb without arguments."""


class DownArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of down."""

    wipe: bool = False


class TargetArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of kill, stop, start, pause and resume."""

    targets: str
    seed: int | None = None


class RestartArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of restart; `rolling`: one node after the other."""

    targets: str
    seed: int | None = None
    rolling: bool = False


class AddArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of add."""

    id: str | None = None
    weight: float | None = None
    rack: str | None = None
    wait: bool = True


class RemoveArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of remove."""

    id: str
    wait: bool = True


class PartitionArgs(msgspec.Struct, forbid_unknown_fields=True, rename={"source": "from"}):
    """Arguments of partition: groups, or from and to."""

    groups: list[list[str]] | None = None
    source: list[str] | None = None
    to: list[str] | None = None
    mode: str = "hold"


class LinkArgs(msgspec.Struct, forbid_unknown_fields=True, rename={"source": "from"}):
    """Arguments of link; what is None is not part of the rule."""

    source: str
    to: str
    both: bool = False
    reset: bool | None = None
    latency_us: int | None = None
    jitter_us: int | None = None
    bandwidth_bps: int | None = None
    connect: str | None = None


Result = dict[str, Any]
Verb = Callable[[Lab, Any, Progress], Awaitable[Result]]


async def _status(lab: Lab, _args: NoArgs, _say: Progress) -> Result:
    return await lab.status()


def _node_verb(verb: str) -> Verb:
    async def act(lab: Lab, args: TargetArgs, _say: Progress) -> Result:
        return _proved(await lab.act(verb, args.targets, args.seed))

    return act


async def _restart(lab: Lab, args: RestartArgs, say: Progress) -> Result:
    if args.rolling:
        return _proved(await lab.restart_in_turn(args.targets, args.seed, say))
    return _proved(await lab.act("restart", args.targets, args.seed))


def _proved(proof: list[Proof]) -> Result:
    return {"targets": [one.id for one in proof], "proof": msgspec.to_builtins(proof)}


async def _add(lab: Lab, args: AddArgs, say: Progress) -> Result:
    return await lab.membership.add(
        args.id, args.weight, args.rack, wait=args.wait, on_progress=say
    )


async def _remove(lab: Lab, args: RemoveArgs, say: Progress) -> Result:
    return await lab.membership.remove(args.id, wait=args.wait, on_progress=say)


async def _partition(lab: Lab, args: PartitionArgs, _say: Progress) -> Result:
    cut = await lab.network.partition(
        tuple(lab.members), groups=args.groups, sources=args.source, targets=args.to, mode=args.mode
    )
    return {"cut": [list(link) for link in cut]}


async def _link(lab: Lab, args: LinkArgs, _say: Progress) -> Result:
    fields = msgspec.to_builtins(args)
    rule = {
        name: value
        for name, value in fields.items()
        if name not in {"from", "to", "both"} and value is not None
    }
    links = await lab.network.link(
        tuple(lab.members), args.source, args.to, both=args.both, rule=rule
    )
    return {"links": [list(link) for link in links]}


async def _heal(lab: Lab, _args: NoArgs, _say: Progress) -> Result:
    return {"healed": await lab.network.heal(tuple(lab.members))}


async def _faults(lab: Lab, _args: NoArgs, _say: Progress) -> Result:
    return await lab.network.report()


async def _down(lab: Lab, args: DownArgs, say: Progress) -> Result:
    say({"stage": "stopping", "text": f"stopping {len(lab.members)} nodes"})
    return {"stopped": await lab.close(wipe=args.wipe), "keeps": lab.keeps and not args.wipe}


NODE_VERBS: Final = ("kill", "stop", "start", "pause", "resume")
VERBS: Final[dict[str, tuple[type[msgspec.Struct], Verb]]] = {
    "status": (NoArgs, _status),
    **{verb: (TargetArgs, _node_verb(verb)) for verb in NODE_VERBS},
    "restart": (RestartArgs, _restart),
    "add": (AddArgs, _add),
    "remove": (RemoveArgs, _remove),
    "partition": (PartitionArgs, _partition),
    "link": (LinkArgs, _link),
    "heal": (NoArgs, _heal),
    "faults": (NoArgs, _faults),
    "down": (DownArgs, _down),
}


async def perform(lab: Lab, verb: str, args: Any, say: Progress) -> Result:
    """Do one verb; raises UsageError for an unknown verb or wrong arguments."""
    if verb not in VERBS:
        raise UsageError(f"the daemon has no verb {verb!r}", hint=f"it has {', '.join(VERBS)}")
    shape, act = VERBS[verb]
    try:
        converted = msgspec.convert(args, shape)
    except msgspec.ValidationError as error:
        raise UsageError(f"wrong arguments of {verb}: {error}") from error
    return await act(lab, converted, say)
