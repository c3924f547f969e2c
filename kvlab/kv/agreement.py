"""Which map follows a map: one decision each, by a majority of the members of the map before it.

Single-decree Paxos (Lamport, "Paxos Made Simple", 2001) for every base epoch. It does not say what
should change (`driver`) nor when (`membership`); it sees to it that of two members who both believe to
drive, one at most has its way.

Invariants:

1. Of each base epoch one map at most is chosen: only members that serve by that very base vote, and
   a vote that may have been part of a choice is handed on to whoever asks with a higher ballot.
2. A member votes for nobody below a ballot that it has promised.
3. At most one proposal is under way per node; a newer map ends it.

What is given up where nodes keep nothing on disk: a member that loses its memory forgets its votes.
It votes again in its next life, or a cluster of three would stand still once two had restarted. A
promise or vote that is kept on disk is there before anybody hears of it: it leaves with the frames of
its turn (`durable`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kvlab.kv.link import Link
from kvlab.kv.state import State
from kvlab.ring.cluster_map import ClusterMap
from kvlab.wire.peer import INT_MAX

RETRY_TICKS = 3  # after so many without a decision a proposer asks anew, with a higher ballot
RETRY_TICKS_MAX = (
    48  # each time it waits twice as long: disks or links may be slower than it thought
)
PATIENCE_TICKS = 7  # members wait for up to so many more, each by its number, so that none duel

Ballot = tuple[int, int]  # round, number of the member
NONE: Ballot = (0, 0)


@dataclass(slots=True)
class Proposal:
    """What this node tries to have chosen."""

    base: int  # the epoch of the map that it is to follow
    ballot: Ballot
    body: Any  # a map as builtins
    promises: set[str] = field(default_factory=set)
    votes: set[str] = field(default_factory=set)
    best: Ballot = NONE  # of the votes that were handed on with promises
    asked: bool = False  # for votes, too
    ticks: int = 0


class Agreement:
    """The part of one node in all decisions: as a voter, and as a proposer."""

    def __init__(self, state: State, chosen: Callable[[ClusterMap, int], object]) -> None:
        self.state = state
        self._chosen = chosen
        self._base = 0  # of what follows
        self._promised: Ballot = NONE
        self._voted: Ballot = NONE
        self._body: Any = None  # what was voted for
        self._proposal: Proposal | None = None
        self._round = 0
        self._patience = RETRY_TICKS

    def restore(self, saved: Any) -> None:
        """Go on with what an earlier process of this life had promised and voted for."""
        self._base, promised, voted, self._body = saved
        self._promised, self._voted = (promised[0], promised[1]), (voted[0], voted[1])
        self._round = self._promised[0]

    def _remember(self) -> None:
        saved = [self._base, list(self._promised), list(self._voted), self._body]
        self.state.remember("votes", saved)

    @property
    def is_idle(self) -> bool:
        """Whether this node has nothing under way."""
        return self._proposal is None

    def propose(self, new: ClusterMap, now_us: int) -> None:
        """Try to make `new` the map that follows the present one."""
        assert self._proposal is None
        self._patience = RETRY_TICKS
        self._ask(new.to_builtins(), now_us)

    def tick(self, now_us: int) -> None:
        """Time went by: ask anew where there was no decision."""
        proposal = self._proposal
        if proposal is None:
            return
        if proposal.base != self.state.epoch:
            self._proposal = None
            return
        proposal.ticks += 1
        if proposal.ticks > self._patience + proposal.ballot[1] % PATIENCE_TICKS:
            self._patience = min(2 * self._patience, RETRY_TICKS_MAX)
            self._ask(proposal.body, now_us)

    def _ask(self, body: Any, now_us: int) -> None:
        """Ask all members for promises, with a ballot above all that were seen."""
        me = self.state.me
        if me is None:
            return
        self._round += 1
        ballot = (self._round, me.number)
        self._proposal = Proposal(self.state.epoch, ballot, body)
        self._tell(["prepare", self.state.epoch, *ballot, None])
        self._hear(me.id, self._prepare(self.state.epoch, ballot), now_us)

    def _tell(self, message: list[Any]) -> None:
        current, up = self.state.map, self.state.up
        for member in current.members if current is not None else ():
            if member.id in up:
                up[member.id].controls.append(["agree", *message])

    # -- messages -------------------------------------------------------------------------------

    def on_message(self, link: Link, message: list[Any], now_us: int) -> None:
        """Take [what, base, round, number, body] of a peer; ValueError if it is none."""
        match message:
            case [str(what), int(base), int(one), int(number), body] if 0 <= one <= INT_MAX:
                pass
            case _:
                raise ValueError("a malformed message about the next map")
        if base != self.state.epoch:
            return  # whoever is behind is told the map, by `Membership.spread`
        ballot = (one, number)
        self._round = max(self._round, one)
        answer: list[Any] | None = None
        if what == "prepare":
            answer = self._prepare(base, ballot)
        elif what == "accept":
            answer = self._accept(base, ballot, body)
        else:
            self._hear(link.id, [what, *message[1:]], now_us)
        if answer is not None:
            link.controls.append(["agree", *answer])

    def _forget_others(self, base: int) -> None:
        if base != self._base:
            self._base, self._promised, self._voted, self._body = base, NONE, NONE, None

    def _prepare(self, base: int, ballot: Ballot) -> list[Any] | None:
        """Promise to vote for nobody below a ballot; hand on what was voted for."""
        self._forget_others(base)
        if ballot <= self._promised or self.state.refusal:
            return None
        self._promised = ballot
        self._remember()
        voted = None if self._voted == NONE else [*self._voted, self._body]
        return ["promise", base, *ballot, voted]

    def _accept(self, base: int, ballot: Ballot, body: Any) -> list[Any] | None:
        """Vote, unless a higher ballot was promised."""
        self._forget_others(base)
        if ballot < self._promised or self.state.refusal:
            return None
        self._promised = self._voted = ballot
        self._body = body
        self._remember()
        return ["vote", base, *ballot, None]

    def _hear(self, voter: str, answer: list[Any] | None, now_us: int) -> None:
        """Count a promise or a vote of one member."""
        proposal, current = self._proposal, self.state.map
        if answer is None or proposal is None or current is None:
            return
        what, base, one, number, voted = answer
        if (base, (one, number)) != (proposal.base, proposal.ballot):
            return
        if current.member(voter) is None:
            return
        if what == "promise" and not proposal.asked:
            proposal.promises.add(voter)
            if voted is not None:
                ballot = (voted[0], voted[1])
                if ballot > proposal.best:
                    proposal.best, proposal.body = ballot, voted[2]
            if 2 * len(proposal.promises) > len(current.members):
                proposal.asked = True
                self._tell(["accept", base, one, number, proposal.body])
                vote = self._accept(base, proposal.ballot, proposal.body)
                self._hear(self.state.settings.id, vote, now_us)
        elif what == "vote":
            proposal.votes.add(voter)
            if 2 * len(proposal.votes) > len(current.members):
                self._proposal = None
                self._chosen(ClusterMap.from_builtins(proposal.body), now_us)
