"""A rolling restart: one node after the other, and never while a copy is missing that should be there.

It restarts nodes by the verb of `nodefaults`; what is its own is the wait between two of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvlab.errors import ClientError, InfraError, UsageError
from kvlab.lab.nodefaults import Proof

if TYPE_CHECKING:
    from kvlab.lab.member import Member
    from kvlab.lab.supervisor import Lab

WHOLE_SECONDS_MAX = 300.0  # until every copy is where it should be; large data takes long
POLL_FIRST_S = 0.01
POLL_MAX_S = 0.5


async def restart_in_turn(
    lab: Lab, chosen: tuple[str, ...], on_progress: Callable[[dict[str, Any]], None]
) -> list[Proof]:
    """Restart nodes one after the other; before and after each, all copies must be whole.

    Raises UsageError if a node does not run, InfraError if the copies do not become whole in time:
    the nodes that are left are then not touched.
    """
    proofs: list[Proof] = []
    await wait_whole(lab, chosen)
    for place, node in enumerate(chosen):
        proof = await lab.nodes.restart(lab.member(node))
        proofs.append(proof)
        text = f"{node} runs again as pid {proof.pid} ({place + 1} of {len(chosen)})"
        on_progress({"stage": "restarted", "node": node, "text": text})
        await wait_whole(lab, chosen[place + 1 :])
    return proofs


async def wait_whole(lab: Lab, left: tuple[str, ...] = ()) -> None:
    """Wait until every node runs, sees all others, and holds all that it should.

    Raises UsageError if one does not run, InfraError after WHOLE_SECONDS_MAX; `left` is named then.
    """
    for member in lab.members.values():
        if not member.answers:
            verb = "start" if member.child is None else "resume"
            raise UsageError(
                f"{member.id} does not answer: with another node down, keys could lose their quorum",
                hint=f"kvlab {verb} {member.id}, or kvlab restart without --rolling",
            )
    loop = asyncio.get_running_loop()
    deadline, pause_s = loop.time() + WHOLE_SECONDS_MAX, POLL_FIRST_S
    for member in list(lab.members.values()):
        while why := await _why_not(lab, member):
            if loop.time() > deadline:
                raise InfraError(
                    f"{why} after {WHOLE_SECONDS_MAX:g} s",
                    hint=f"not restarted: {', '.join(left)}" if left else "kvlab status shows more",
                )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, POLL_MAX_S)


async def _why_not(lab: Lab, member: Member) -> str:
    """Say what a node still lacks, or return ""."""
    try:
        status = await lab.engine.status(member.host, member.port, lab.ask_timeout_s)
    except ClientError as error:
        return f"{member.id} does not answer: {error.message}"
    others = frozenset(lab.members) - {member.id}
    if not lab.engine.sees(status, others):
        return f"{member.id} does not see all others"
    return lab.engine.why_busy(member.id, status)
