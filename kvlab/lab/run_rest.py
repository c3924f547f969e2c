"""When the real nodes of a run have come to rest: linked, moving nothing, replicas equal. It only asks.

It is what `sim.rest` is for simulated nodes, seen from outside: by what each node tells of itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kvlab.engine.jsonline import Line
from kvlab.errors import ClientError
from kvlab.lab.run_others import why_incomplete, why_others_differ, why_others_restless
from kvlab.live.security import Access

if TYPE_CHECKING:
    from kvlab.lab.member import Member
    from kvlab.lab.supervisor import Lab

ASK_S = 2.0
KEYS_MAX = 2_000  # that are compared one by one; of the others, ranges and sizes are


async def why_restless(lab: Lab) -> str:
    """Say what keeps the nodes from being at rest, or return ""."""
    if not lab.engine.is_ours:
        return await why_others_restless(lab)
    if why := why_incomplete(lab):
        return why
    members = list(lab.members.values())
    try:
        found = await asyncio.gather(*(_tell(member, lab.access) for member in members))
    except ClientError as error:
        return f"a node does not answer: {error.message}"
    maps = [cluster_map for _, cluster_map in found]
    epochs = ", ".join(
        f"{member.id} {one['epoch']}" for member, one in zip(members, maps, strict=True)
    )
    if any(one != maps[0] for one in maps):
        return f"the nodes serve by different maps: {epochs}"
    apart = {one["id"] for one in maps[0]["members"]} ^ {member.id for member in members}
    if apart:
        return f"the map and the laboratory do not agree on {min(apart)}"
    if any(place["next"] is not None for place in maps[0]["ranges"]):
        return "ranges still move"
    for member, (status, _) in zip(members, found, strict=True):
        if not status["ready"]:
            return f"{member.id} is not ready: {status['waits_for']}"
        down = [name for name, state in status["peers"].items() if state != "up"]
        if down:
            return f"{member.id} has no link to {down[0]}"
        if why := lab.engine.why_busy(member.id, status):
            return why
    return ""


async def why_different(lab: Lab, keys: Sequence[str]) -> str:
    """Say where replicas hold different records (of the eventual namespace), or return ""."""
    if not lab.engine.is_ours:
        return await why_others_differ(lab, keys[:KEYS_MAX])
    members = list(lab.members.values())
    try:
        held = await asyncio.gather(
            *(_held(member, keys[:KEYS_MAX], lab.access) for member in members)
        )
        async with Line(members[0].host, members[0].port, lab.access) as line:
            ranges = (await line.ask({"type": "MAP", "key": ""}, ASK_S))["ranges"]
    except ClientError as error:
        return f"a node does not answer: {error.message}"
    by_node = {member.id: one for member, one in zip(members, held, strict=True)}
    for index, place in enumerate(ranges):
        sizes = {one: by_node[one][0].get(str(index), [0, 0]) for one in place["replicas"]}
        if len({tuple(size) for size in sizes.values()}) > 1:
            return f"replicas of range {index} hold (keys, bytes) {sizes}"
    for key in keys[:KEYS_MAX]:
        told = {one: records[key] for one, (_, records) in by_node.items()}
        owners = next(iter(told.values()))["owners"]
        records = {one: (told[one]["version"], told[one]["present"]) for one in owners}
        if len(set(records.values())) > 1:
            return f"replicas of {key} hold (version, present) {records}"
    return ""


async def ring_of(lab: Lab) -> dict[str, Any]:
    """Return what is where and what moved: {"keys": {node: copies}, "moves": {node: answer}}.

    Nodes that do not answer, or are not ours and do not know, are left out.
    """
    found: dict[str, Any] = {"keys": {}, "moves": {}}
    for member in lab.members.values() if lab.engine.is_ours else ():
        with suppress(ClientError, KeyError, OSError):
            async with Line(member.host, member.port, lab.access) as line:
                held = await line.ask({"type": "RANGES", "key": ""}, ASK_S)
                both = [*held["ranges"].values(), *held["linear"].values()]
                found["keys"][member.id] = sum(keys for keys, _ in both)
                found["moves"][member.id] = await line.ask({"type": "MOVES", "key": ""}, ASK_S)
    return found


async def _tell(member: Member, access: Access) -> tuple[dict[str, Any], dict[str, Any]]:
    async with Line(member.host, member.port, access) as line:
        status = await line.ask({"type": "STATUS", "key": ""}, ASK_S)
        return status, await line.ask({"type": "MAP", "key": ""}, ASK_S)


async def _held(
    member: Member, keys: Sequence[str], access: Access
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    async with Line(member.host, member.port, access) as line:
        ranges = (await line.ask({"type": "RANGES", "key": ""}, ASK_S))["ranges"]
        records = {key: await line.ask({"type": "INSPECT", "key": key}, ASK_S) for key in keys}
        return ranges, records
