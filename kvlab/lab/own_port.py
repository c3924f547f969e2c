"""Ports that a server opens itself: free before its start, held beside it, and why it failed if it did.

It starts nothing: `lifecycle` does, and asks here. Our own nodes are handed a listening socket and
need none of this.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from kvlab.errors import PortTakenError
from kvlab.lab import procs
from kvlab.lab.member import Member

# How long processes of an earlier life, killed with it, may take to let go of the port.
FREE_SECONDS_MAX: Final = 1.0
FREE_POLL_S: Final = 0.005
# What programs say of EADDRINUSE, in C, Go, Java, Node, Rust and Python.
BLOCKED: Final = re.compile(
    r"address (is )?already in use|address in use|EADDRINUSE", re.IGNORECASE
)
LET_GO: Final = (
    "kvlab: the port had been held for this server, which does not set SO_REUSEADDR; it is started"
    " again without that. Set it, or it cannot start again within a minute of its connections\n"
)
NO_REUSE: Final = (
    "set SO_REUSEADDR on the listening socket: without it, the system keeps a port for a minute"
    " after its connections"
)


async def wait_free(member: Member) -> None:
    """Wait until nobody listens on the node's port; raises PortTakenError when somebody stays."""
    assert member.reservation is not None
    deadline = asyncio.get_running_loop().time() + FREE_SECONDS_MAX
    while True:
        try:
            member.reservation.listen().close()
            return
        except PortTakenError:
            if not procs.listener_of(member.port):
                return  # the system keeps it; only a server without SO_REUSEADDR minds
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(FREE_POLL_S)


def is_blocked(member: Member) -> bool:
    """Say whether the last life of the node ended because it could not have its port."""
    return BLOCKED.search(member.log_tail()) is not None


def note_let_go(member: Member) -> None:
    """Explain in the node's log why it is started once more."""
    with member.log.open("a") as log:
        log.write(LET_GO)


def why_blocked(member: Member) -> str:
    """Say what to do about a port that a server could not have."""
    owner = procs.listener_of(member.port)
    if owner:
        return f"{member.address} is taken by {owner}: end it, or choose another port"
    return NO_REUSE


def elsewhere(member: Member) -> str:
    """Say where a process listens that does not listen where it was told to, or return ""."""
    places = procs.listening_at(member.pid) if member.pid is not None else []
    others = [place for place in places if not place.endswith(f":{member.port}")]
    return f" (it listens on {', '.join(others)})" if others and others == places else ""
