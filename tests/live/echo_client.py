"""What the tests of the asyncio client share: a loop, servers and a client that end cleanly."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from kvlab.live.client import Client

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(name="run", params=LOOPS, ids=["asyncio", "uvloop"])
def run_fixture(request):
    """Run a coroutine function with a started server; both end cleanly."""

    def go(body, *stores, **options):
        async def main():
            for store in stores:
                await store.start()
            options.setdefault("timeout", 5.0)
            try:
                async with Client([store.address for store in stores], **options) as client:
                    await asyncio.wait_for(body(client), 20)
            finally:
                for store in stores:
                    await store.stop()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return go


async def until(condition, seconds=5.0):
    """Let the loop turn until `condition()` holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for knows nothing of the test
            await asyncio.sleep(0.001)
