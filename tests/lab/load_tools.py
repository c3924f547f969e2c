"""What the tests of the load generator share: a deadline, plans and conditions."""

from __future__ import annotations

import asyncio

import msgspec

from kvlab.lab.load_plan import LoadPlan

DEADLINE_S = 20


def drive(work):
    """Run a test's coroutine with a deadline."""
    return asyncio.run(asyncio.wait_for(work, DEADLINE_S))


def plan(*servers, **changes) -> LoadPlan:
    base = LoadPlan(addresses=tuple(s.address for s in servers), clients=4, keys=20, count=400)
    return msgspec.structs.replace(base, **changes)


async def until(condition) -> None:
    while not condition():  # noqa: ASYNC110 - conditions of a server that has no events
        await asyncio.sleep(0.002)


def balanced(result) -> bool:
    shares = result.nodes.values()
    return (
        sum(n.answered for n in shares) == result.answered == result.service.n
        and sum(n.errors for n in shares) + result.unsent == result.failed
    )
