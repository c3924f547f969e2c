"""Runs a coroutine in the fastest event loop there is: uvloop, or asyncio where it has no wheel.

It is not needed inside a running loop; the load generator works in any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_fresh(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in a new loop and return the result."""
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)
