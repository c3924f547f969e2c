"""Background comparison of replicas: what was missed for whatever reason is found and fetched.

Anti-entropy as in Dynamo (DeCandia and others, 2007), with a Merkle tree per range: its root is the
digest that is told, its leaves are compared where roots differ. It moves nothing itself: `transfer`
does.

Once a second each node tells every peer the digests of the ranges that both hold. Replicas of a range
that is written to differ for moments all the time, so a difference counts when it stands still.

Invariants:

1. Only ranges at rest are compared, between members that hold them by the present map.
2. What is told is bounded by the ranges that two members share, what is begun by STARTS_MAX a peer.
"""

from __future__ import annotations

from typing import Any

from kvlab.kv.link import Link
from kvlab.kv.state import State
from kvlab.kv.transfer import Transfers
from kvlab.wire.peer import FrameError

EXCHANGE_TICKS = 10
DOUBT_ROUNDS = 10  # a range that differed so often in a row is compared though it never stood still
STARTS_MAX = 16  # comparisons begun after one exchange


class Exchange:
    """What one node knows of how its ranges differ from those of its peers."""

    def __init__(self, state: State, transfers: Transfers) -> None:
        self.state = state
        self.transfers = transfers
        self._ticks = 0
        # (range, peer) -> (digest here, digest there, rounds in a row) of those that differed
        self._doubts: dict[tuple[int, str], tuple[int, int, int]] = {}

    def tick(self) -> None:
        """Tell the digests, when it is time."""
        self._ticks += 1
        current = self.state.map
        if self._ticks < EXCHANGE_TICKS or current is None or not self.state.serving:
            return
        self._ticks = 0
        me, digest = self.state.settings.id, self._digest
        told: dict[str, list[int]] = {}
        for index, place in enumerate(current.ranges):
            if place.next is None and me in place.replicas:
                for peer in place.replicas:
                    if peer in self.state.up:
                        told.setdefault(peer, []).extend((index, digest(index)))
        for peer, digests in told.items():
            self.state.up[peer].controls.append(["digests", current.epoch, digests])

    def on_digests(self, link: Link, epoch: int, digests: list[Any]) -> None:
        """Compare a peer's digests with this node's own."""
        state = self.state
        current = state.map
        if current is None or current.epoch != epoch or not state.serving:
            return
        starts = 0
        each = iter(digests)
        for index, theirs in zip(each, each, strict=True):
            if type(index) is not int or not 0 <= index < len(current.ranges):
                raise FrameError(f"a malformed digest of {link.id}")
            if state.settings.id not in current.ranges[index].replicas:
                continue
            ours = self._digest(index)
            if ours == theirs:
                self._doubts.pop((index, link.id), None)
            elif starts < STARTS_MAX and self._stands(index, link.id, ours, theirs):
                starts += self.transfers.compare(index, link.id)
                state.counters["exchanges"] += 1
        self.transfers.advance()

    def _digest(self, index: int) -> int:
        """Return the digest of a range in both namespaces: no version is also a ballot."""
        return self.state.table.digest(index) ^ self.state.registers.digest(index)

    def _stands(self, index: int, peer: str, ours: int, theirs: int) -> bool:
        """Whether a difference is more than writes on their way."""
        before = self._doubts.pop((index, peer), (0, 0, 0))
        if before[:2] == (ours, theirs) or before[2] + 1 >= DOUBT_ROUNDS:
            return True
        self._doubts[index, peer] = (ours, theirs, before[2] + 1)
        return False

    def on_link_down(self, link: Link) -> None:
        """Forget what was in doubt with a peer: the next connection begins with a comparison."""
        for key in [key for key in self._doubts if key[1] == link.id]:
            del self._doubts[key]
