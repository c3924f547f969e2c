"""Ballots that were promised ahead: what the next change of a key may be proposed under at once.

With each register that it accepts an acceptor also promises the proposer's next ballot, so that the
proposer of a key, as long as nobody else proposes for it, needs one round trip for a change in place of
two (CASPaxos, Rystsov 2018, section 2.2.1). It asks and decides nothing: see `proposer`.

Invariant: who stands in `members` had accepted nothing above `register` when it promised `ballot`, and
accepts nothing below that since.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from kvlab.storage.registers import Register

AHEAD_MAX = 10_000  # keys


class Ahead(NamedTuple):
    """What is known of the next change of one key."""

    register: Register  # that is chosen
    ballot: int
    epoch: int  # by whose map it was promised
    members: tuple[str, ...]  # who promised


class BallotsAhead:
    """Of the keys that were changed here last."""

    def __init__(self) -> None:
        self._of: OrderedDict[bytes, Ahead] = OrderedDict()

    def put(self, key: bytes, ahead: Ahead) -> None:
        """Keep a ballot that a majority has promised."""
        self._of[key] = ahead
        self._of.move_to_end(key)
        if len(self._of) > AHEAD_MAX:
            self._of.popitem(last=False)

    def take(self, key: bytes, fence: int) -> Ahead | None:
        """Return it, if the range has not changed hands since: once, as no ballot is used twice."""
        ahead = self._of.pop(key, None)
        return ahead if ahead is not None and ahead.epoch >= fence else None
