"""A node as acceptor of the linear namespace: what it has accepted and promised, when it says no.

It never asks back and never waits.

CASPaxos (Rystsov, "CASPaxos: Replicated State Machines without logs", 2018), one register per key.
The answers, as tuples:

    ("state", ballot, value, changes, forgot, window)   what was accepted, to a query or with a promise;
                                                the ballot alone where the asker has it already
    ("kept",)                                   accepted, and the ballot that is to follow promised
    ("no", ballot)                              a greater one was promised
    ("stale", epoch)                            the range has changed hands since the asker's map
    ("refused",)                                this node can keep nothing, or has yet to be filled

Invariants:

1. Nothing is accepted below what was promised, and nothing is promised twice.
2. What is answered is in the journal of the same turn: it is kept before anybody hears of it.
3. A node that knows that a range changed hands answers nobody who does not (the fence), and one whose
   life is no member answers nobody.
"""

from __future__ import annotations

from typing import Any

from kvlab.kv.state import State
from kvlab.storage.registers import EMPTY, Register

Answer = tuple[Any, ...]


class Acceptor:
    """The registers of one node, as proposers see them."""

    def __init__(self, state: State) -> None:
        self.state = state

    def query(self, index: int, key: bytes, epoch: int, held: int) -> Answer:
        """Tell what was accepted, by its ballot alone if that is what the asker holds."""
        return self._closed(index, epoch) or self._tell(index, key, held)

    def prepare(self, index: int, key: bytes, epoch: int, held: int, ballot: int) -> Answer:
        """Promise to accept nothing below a ballot, and tell what was accepted."""
        if closed := self._closed(index, epoch):
            return closed
        registers = self.state.registers
        promised = registers.promised(index, key)
        if ballot <= promised:
            return ("no", promised)
        registers.promise(index, key, ballot)
        return self._tell(index, key, held)

    def accept(
        self, index: int, key: bytes, epoch: int, register: Register, following: int
    ) -> Answer:
        """Accept a register, unless a greater ballot was promised; promise the one that follows."""
        if closed := self._closed(index, epoch):
            return closed
        registers = self.state.registers
        promised = registers.promised(index, key)
        if register.ballot < promised:
            return ("no", promised)
        registers.accept(index, key, register)
        if following > register.ballot:
            registers.promise(index, key, following)
        return ("kept",)

    def take_copy(self, index: int, key: bytes, register: Register, *, votes: bool) -> bool:
        """Take what another replica has accepted; False if a promise forbids it.

        To one that `votes` in this range it is the message of its proposer, come late. One that is
        still to be filled is in no majority that counts alone: it takes what it is given, or it
        could be counted later without what a majority had accepted.
        """
        registers = self.state.registers
        if votes and register.ballot < registers.promised(index, key):
            return registers.ranges[index].get(key, EMPTY).ballot >= register.ballot
        registers.accept(index, key, register)
        return True

    def _closed(self, index: int, epoch: int) -> Answer | None:
        state = self.state
        if not state.serving or state.refusal:
            return ("refused",)
        if state.fence[index] > epoch:
            state.counters["fence_refusals"] += 1
            return ("stale", state.epoch)
        return None

    def _tell(self, index: int, key: bytes, held: int) -> Answer:
        register = self.state.registers.get(index, key)
        if register.ballot == held:
            return ("state", register.ballot)
        return ("state", *register)
