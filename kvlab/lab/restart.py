"""When a node that died by itself is started again: a pure decision. It starts nothing.

The wait doubles with every restart inside the window, so a node that cannot live costs little; a
node that lived longer than the window begins again with the shortest wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvlab.spec import RestartSpec


@dataclass(frozen=True)
class Restart:
    """Start the node again after `delay_us`."""

    delay_us: int


@dataclass(frozen=True)
class LeaveDown:
    """Leave the node as it is: the policy does not ask for a restart."""

    because: str


@dataclass(frozen=True)
class GiveUp:
    """Leave the node as it is: it died too often."""

    because: str


Decision = Restart | LeaveDown | GiveUp


def decide(
    policy: RestartSpec, exit_code: int, restarts_us: Sequence[int], now_us: int
) -> Decision:
    """Decide about a node that ended with `exit_code` (negative: the signal) at `now_us`.

    `restarts_us` are the times of its earlier restarts by this policy.
    """
    if policy.policy == "never":
        return LeaveDown("the restart policy is never")
    if policy.policy == "on-failure" and exit_code == 0:
        return LeaveDown("it ended by itself with status 0, and the restart policy is on-failure")
    recent = sum(1 for at in restarts_us if now_us - at < policy.window_us)
    if recent >= policy.count_max:
        return GiveUp(f"{recent} restarts in {policy.window_us / 1e6:g} s are the limit")
    # Python's integers do not overflow, but 2**1000 would be a slow way to say "the longest wait".
    doubled = policy.backoff_us_min << min(recent, 40)
    return Restart(min(doubled, policy.backoff_us_max))
