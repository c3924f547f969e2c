"""One operation of the linear namespace, from who asked for it to its outcome. It is done elsewhere.

See `proposer` for how, and `linear` for when.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvlab.kv.register import Outcome

LOOKS = ("get", "ttl")  # kinds that change nothing
UNSURE = Outcome("UNKNOWN", "not enough replicas confirmed it in time")
FEW = Outcome("UNAVAILABLE", "not enough replicas answered; nothing was changed")


@dataclass(slots=True, eq=False)
class Operation:
    """One operation on one key. `end` is told its outcome, once."""

    key: bytes
    kind: str  # of register.KINDS, or "touch": see to it that a majority holds what is chosen
    args: list[Any]
    request: Any  # its id
    deadline_us: int
    end: Callable[[Operation, Outcome], object]
    retry: bool = False  # its client may have asked for it before ...
    since_us: int = 0  # ... by its clock then; 0: at any time
    sent: bool = False  # its effect was proposed to somebody
    place: int = 0  # which change of the key it was then
    ended: bool = False
    hops: int = 0  # nodes that it was handed to

    @property
    def may_have_happened(self) -> bool:
        """Whether nobody can say any more that it had no effect."""
        return self.sent or (self.retry and self.kind not in LOOKS)

    def conclude(self, outcome: Outcome) -> None:
        """End it, if it has not ended."""
        if not self.ended:
            self.ended = True
            self.end(self, outcome)

    def give_up(self) -> None:
        """End it without having been able to do it."""
        self.conclude(UNSURE if self.may_have_happened else FEW)
