"""A run on servers by others: what cannot be done to them, and when they have come to rest.

It asks them nothing that they are not said to know. Where kvlab's own nodes tell what they hold, these
are read as a client reads: they agree when each tells the same of every key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvlab.check.words import shown
from kvlab.errors import ClientError, KvlabError
from kvlab.experiment import Plan
from kvlab.experiment.plan import VERSIONED, checks_of
from kvlab.fault.fault import LINK_KINDS, Fault
from kvlab.lab.run_client import Asker, Tongue

if TYPE_CHECKING:
    from kvlab.lab.supervisor import Lab

READ_US = 1_000_000
MISSING = "NOT_FOUND"
OURS_ONLY = {
    "skew": "only kvlab's own nodes can be told a wrong time",
    "bit-flip": "only the files of kvlab's own nodes are known",
    "disk-full": "whether it is felt can only be seen of kvlab's own nodes",
}


def why_not(lab: Lab, plan: Plan, fault: Fault) -> str:
    """Say why a fault cannot be brought about on this cluster at all, or return ""."""
    if fault.kind in LINK_KINDS and not lab.spec.network.shims:
        return "links pass no shim (network: {shims: true} in cluster.yaml)"
    if lab.engine.is_ours:
        return ""
    if fault.kind == "join":
        return lab.engine.why_no_join()
    if fault.kind == "leave":
        return lab.engine.why_no_leave()
    if fault.kind == "wipe" and not plan.spec.keeps_data:
        return "the command has no {data}: there is nothing to remove"
    return OURS_ONLY.get(fault.kind, "")


def left_out(lab: Lab, plan: Plan) -> list[str]:
    """Return a sentence for each part of a plan that these servers cannot be given."""
    found = {fault.kind: why_not(lab, plan, fault) for fault in plan.faults}
    said = [f"{kind} is left out: {why}" for kind, why in found.items() if why]
    if plan.spec.is_of_others:
        if plan.spec.clocks:
            said.append(f"clocks are left alone: {OURS_ONLY['skew']}")
        asked = set(checks_of(plan.spec.checks)).intersection(VERSIONED)
        said += [f"{one} is not judged: these servers tell no versions" for one in sorted(asked)]
    return said


def why_incomplete(lab: Lab) -> str:
    """Say which node, of anybody's, is not running or about to leave, or return ""."""
    for member in lab.members.values():
        if member.child is None:
            return f"{member.id} is not running: {member.last_exit or member.phase}"
        if member.leaving:
            return f"{member.id} is still handing its data over"
    return ""


async def why_others_restless(lab: Lab) -> str:
    """Say which server does not answer or says that it is not at rest, or return ""."""
    if why := why_incomplete(lab):
        return why
    members = list(lab.members.values())
    try:
        found = await asyncio.gather(
            *(lab.engine.status(one.host, one.port, lab.ask_timeout_s) for one in members)
        )
    except ClientError as error:
        return f"a server does not answer: {error.message}"
    for member, status in zip(members, found, strict=True):
        if not lab.engine.sees(status, frozenset(lab.members) - {member.id}):
            return f"{member.id} does not see all others"
        if why := lab.engine.why_busy(member.id, status):
            return why
    return ""


async def why_others_differ(lab: Lab, keys: Sequence[str]) -> str:
    """Say of which key two servers tell different things, or return ""."""
    tongue = Tongue(lab.engine.protocol, is_ours=False)
    askers = {name: tongue.asker(address, READ_US) for name, address in lab.addresses.items()}
    try:
        for key in keys:
            told = await asyncio.gather(*(_value(one, key) for one in askers.values()))
            if len(set(told)) > 1:
                said = [f"{node} {shown(one)}" for node, one in zip(askers, told, strict=True)]
                return f"the servers tell different things of {key}: {', '.join(said)}"
    except KvlabError as error:
        return f"a key cannot be read: {error.message}"
    finally:
        await asyncio.gather(*(one.close() for one in askers.values()))
    return ""


async def _value(asker: Asker, key: str) -> str | None:
    """Return what a server tells of a key. Raises ClientError."""
    reply = await asker.request("GET", key)
    if reply.status == "SUCCESS":
        return reply.value
    if reply.code == MISSING or reply.error == "Key does not exist":
        return None
    raise ClientError(f"{key}: {reply.error}", code=reply.code or "")
