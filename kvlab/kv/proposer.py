"""Rounds: one change, or look, at the register of one key, agreed on by majorities. No I/O.

CASPaxos (Rystsov 2018) with what it needs to be retried: every change carries the id of its request,
a register remembers its last ids, and what is found is proposed again before it is answered. An id
that a minority holds is not chosen yet (reference: 2 of 100 schedules break where that is forgotten).

    query      what was accepted? One ballot at a majority is chosen, and tells a read its value
    prepare    promise me; the greatest accepted register is what the operations are done on
    accept     keep this, and promise me the ballot that follows; at a majority it is chosen

While a range moves, a majority is one of its replicas and one of its next replicas.

Invariants:

1. A register is proposed only under a ballot that a majority promised, and only what follows the
   greatest that they had accepted. They may have promised it with the change before (`ahead`).
2. An operation is done once: one whose effect was sent is done again only on a register that could
   not have forgotten it (`_done_before`), and else ends as UNKNOWN.
3. A round answers only what is chosen.
4. Of each key one round at most is under way here; `Linear` keeps the order of what waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kvlab.kv.acceptor import Acceptor, Answer
from kvlab.kv.ahead import Ahead, BallotsAhead
from kvlab.kv.link import Link
from kvlab.kv.operation import LOOKS, Operation
from kvlab.kv.register import DONE, Outcome, noted, recall, register_of, step
from kvlab.kv.state import State
from kvlab.kv.version import SKEW_MAX_US, microseconds
from kvlab.storage.registers import EMPTY, WINDOW, Register
from kvlab.wire.peer import is_version

EAGER_TRIES = 3  # that follow at once; later ones wait, or two proposers could duel for ever
FORGOTTEN = Outcome("UNKNOWN", "it may have been done before, so long ago that nobody remembers")


@dataclass(slots=True, eq=False)
class Round:
    """One attempt after the other at one key."""

    key: bytes
    index: int  # of its range
    operations: list[Operation]
    number: int = 0  # of what was asked last
    phase: str = ""
    epoch: int = 0
    ballot: int = 0
    is_ahead: bool = False  # what is known was told with the change before
    following: int = 0  # the ballot that is to be promised with what is proposed
    proposed: Register = EMPTY
    above: int = 0  # the greatest ballot that was met
    replicas: tuple[str, ...] = ()
    coming: tuple[str, ...] = ()
    waits_for: set[str] = field(default_factory=set)
    states: dict[str, Register] = field(default_factory=dict)  # what members told
    kept: set[str] = field(default_factory=set)
    outcomes: list[tuple[Operation, Outcome]] = field(default_factory=list)
    tries: int = 0
    rest_ticks: int = 0  # before the next attempt

    @property
    def holders(self) -> dict[str, None]:
        """Whom it concerns: the replicas, and who will be."""
        return dict.fromkeys(self.replicas + self.coming)

    @property
    def is_look(self) -> bool:
        """Whether nothing is to be changed."""
        return all(one.kind in LOOKS for one in self.operations)

    def is_majority(self, members: Any) -> bool:
        """Whether these are enough of the replicas, and of the coming ones."""
        for each in (self.replicas, self.coming):
            count = 0
            for one in each:
                count += one in members
            if each and 2 * count <= len(each):
                return False
        return True


class Proposer:
    """All rounds of one node; `done(key)` is called when one has ended."""

    def __init__(self, state: State, acceptor: Acceptor, done: Callable[[bytes], object]) -> None:
        self.state = state
        self.now_us = 0
        self.rounds: dict[bytes, Round] = {}
        self._acceptor = acceptor
        self._done = done
        self._asked: dict[int, Round] = {}  # by number of what was asked last
        self._ahead = BallotsAhead()
        self._number = 0

    def begin(self, key: bytes, index: int, operations: list[Operation]) -> None:
        """Do these operations, in order; none is done on the key at present."""
        one = self.rounds[key] = Round(key, index, operations)
        if one.is_look or not self._go_ahead(one):
            self._attempt(one, "query" if one.is_look else "prepare")

    # -- asking ---------------------------------------------------------------------------------

    def _go_ahead(self, one: Round) -> bool:
        """Propose at once, if a majority promised a ballot with the change before."""
        state = self.state
        if state.map is None or not state.serving or state.refusal:
            return False
        ahead = self._ahead.take(one.key, state.fence[one.index])
        if ahead is None or any(operation.kind == "touch" for operation in one.operations):
            return False
        if not one.is_majority(self._place(one)):
            return False
        one.phase, one.ballot, one.is_ahead = "prepare", ahead.ballot, True
        one.states = dict.fromkeys(ahead.members, ahead.register)
        self._do(one)
        return True

    def _place(self, one: Round) -> list[str]:
        """Take who holds the key from the present map; return who of them can be asked."""
        state = self.state
        assert state.map is not None
        place = state.map.ranges[one.index]
        one.replicas, one.coming, one.epoch = place.replicas, place.next or (), state.epoch
        return self._reach(one)

    def _reach(self, one: Round) -> list[str]:
        """Return who can be asked."""
        me, up = self.state.settings.id, self.state.current_up
        return [member for member in one.holders if member == me or member in up]

    def _attempt(self, one: Round, phase: str) -> None:
        """Ask all who hold the key, by the present map."""
        state, settings = self.state, self.state.settings
        self._asked.pop(one.number, None)
        one.states, one.kept, one.waits_for, one.is_ahead = {}, set(), set(), False
        if state.map is None or not state.serving:
            self._rest(one)
            return
        there = self._place(one)
        if not one.is_majority(there):
            self._hopeless(one)
            return
        one.phase = phase
        self._count(one)
        one.waits_for = set(there)
        if phase == "prepare":
            above = max(one.above, state.registers.promised(one.index, one.key))
            one.ballot = state.clock.above(above, self.now_us)
        mine: Answer = ()
        if settings.id in there:
            where = (one.index, one.key, one.epoch, 0)
            if phase == "prepare":
                mine = self._acceptor.prepare(*where, one.ballot)
            else:
                mine = self._acceptor.query(*where)
        # Others need not send what this node has, as long as it is counted itself.
        held = mine[1] if mine[:1] == ("state",) else 0
        self._tell(there, [phase, one.number, one.epoch, one.key, held, one.ballot])
        if mine:
            self._take(one, settings.id, mine)

    def _count(self, one: Round) -> None:
        """Give what is asked now a number, by which its answers are known."""
        self._asked.pop(one.number, None)
        self._number += 1
        one.number = self._number
        self._asked[one.number] = one

    def _propose(self, one: Round, register: Register) -> None:
        """Ask those who promised, and all others too, to accept a register."""
        one.phase, one.kept = "accept", set()
        self._count(one)  # what is still to come of the promises does not matter any more
        me, there = self.state.settings.id, self._reach(one)
        one.waits_for = set(there)
        one.proposed = register
        self._tell(there, ["accept", one.number, one.epoch, one.key, *register, one.following])
        if me in there:
            where = (one.index, one.key, one.epoch)
            self._take(one, me, self._acceptor.accept(*where, register, one.following))

    def _tell(self, members: list[str], message: list[Any]) -> None:
        for member in members:
            if member != self.state.settings.id:
                self.state.up[member].controls.append(["register", *message])

    # -- answers --------------------------------------------------------------------------------

    def on_answer(self, link: Link, number: int, answer: Answer) -> None:
        """Take what an acceptor said; what nobody waits for any more is left out."""
        one = self._asked.get(number)
        if one is not None and link.id in one.waits_for:
            self._take(one, link.id, answer)

    def _take(self, one: Round, member: str, answer: Answer) -> None:
        number, phase = one.number, one.phase
        one.waits_for.discard(member)
        match answer:
            case ("state", int(ballot), *body) if phase != "accept" and is_version(ballot):
                one.states[member] = self._register(one, ballot, body)
                one.above = max(one.above, ballot)
            case ("kept",) if phase == "accept":
                one.kept.add(member)
            case ("no", int(ballot)) if is_version(ballot):
                one.above = max(one.above, ballot)
            case _:
                pass  # refused, or by an older map than it has: this one does not count
        if phase == "query":
            self._look(one)
        elif phase == "prepare":
            if one.is_majority(one.states):
                self._do(one)
        elif one.is_majority(one.kept):
            ahead = Ahead(one.proposed, one.following, one.epoch, tuple(one.kept))
            self._ahead.put(one.key, ahead)
            self._chosen(one)
        if one.number == number and one.phase == phase and self.rounds.get(one.key) is one:
            self._check_hope(one)

    def _register(self, one: Round, ballot: int, body: list[Any]) -> Register:
        """Return what a member told: the ballot alone stands for what this node told itself."""
        if body:
            return register_of(ballot, body)
        return next((each for each in one.states.values() if each.ballot == ballot), EMPTY)

    def _look(self, one: Round) -> None:
        """Answer a read if one ballot is chosen: a majority tells it, and none is newer there."""
        register = self._agreed(one)
        if register is not None:
            for operation in one.operations:
                kind = operation.kind
                operation.conclude(step(register, kind, [], None, 0, self.now_us)[1])
            self._close(one)
        elif not one.waits_for and one.is_majority(one.states):
            self._attempt(one, "prepare")  # what was seen must be chosen before it is told

    def _agreed(self, one: Round) -> Register | None:
        """Return the register that a majority told alike."""
        ballots: dict[int, list[str]] = {}
        for member, register in one.states.items():
            ballots.setdefault(register.ballot, []).append(member)
        for members in ballots.values():
            if one.is_majority(members):
                return one.states[members[0]]
        return None

    def _do(self, one: Round) -> None:
        """Do the operations on the greatest register that was accepted, and propose what follows."""
        best = max(one.states.values(), key=lambda each: each.ballot)
        register, outcomes = best, list[tuple[Operation, Outcome]]()
        # A ballot that was promised ahead is older than the request, which is remembered as of now.
        one.following = self.state.clock.above(one.ballot, self.now_us)
        for operation in one.operations:
            if operation.ended:
                continue
            outcome = self._done_before(operation, register, best)
            if outcome is None:
                after, outcome = step(
                    register,
                    operation.kind,
                    operation.args,
                    operation.request,
                    one.following,
                    self.now_us,
                )
                if after is register and operation.may_have_happened:
                    after = noted(register, operation.request, one.following)
                if after is not register:
                    register = after
                    operation.sent, operation.place = True, register.changes
            outcomes.append((operation, outcome))
        one.outcomes = outcomes
        touched = any(operation.kind == "touch" for operation, _ in outcomes)
        agreed = self._agreed(one)
        if register is best and one.is_ahead and outcomes:
            self._attempt(one, "prepare")  # nothing to propose, so ask whether it is still so
        elif register is best and not touched and agreed and agreed.ballot == best.ballot:
            self._chosen(one)  # it is there already
        elif not outcomes:
            self._close(one)
        else:
            self._propose(one, register._replace(ballot=one.ballot))

    def _done_before(
        self, operation: Operation, register: Register, best: Register
    ) -> Outcome | None:
        """Return how an operation ended if it need not or must not be done any more."""
        if operation.kind == "touch":
            return DONE
        if operation.kind in LOOKS:
            return None
        found = recall(register, operation.request)
        if found is not None:
            return found
        since_us = operation.since_us - SKEW_MAX_US
        if operation.retry and best.forgot and microseconds(best.forgot) >= since_us:
            return FORGOTTEN
        if operation.sent and operation.place <= best.changes - WINDOW:
            return FORGOTTEN
        return None

    def _chosen(self, one: Round) -> None:
        for operation, outcome in one.outcomes:
            operation.conclude(outcome)
        self._close(one)

    # -- attempts that fail ---------------------------------------------------------------------

    def _check_hope(self, one: Round) -> None:
        """Begin anew when those who may still answer are too few."""
        answered = one.kept if one.phase == "accept" else one.states
        if not one.is_majority({*answered, *one.waits_for}):
            self._again(one)

    def _again(self, one: Round) -> None:
        self.state.counters["ballot_conflicts"] += 1
        one.tries += 1
        if one.tries <= EAGER_TRIES:
            self._attempt(one, "prepare")
        else:
            self._rest(one)

    def _rest(self, one: Round) -> None:
        """Wait some ticks, each member another number of them."""
        self._asked.pop(one.number, None)
        one.number = 0
        one.waits_for = set()
        me = self.state.me
        one.rest_ticks = 1 + (one.tries + (me.number if me is not None else 0)) % 3

    def _hopeless(self, one: Round) -> None:
        """Too few can be reached: end what has not been sent, wait with the rest for its deadline."""
        for operation in one.operations:
            if not operation.sent:
                operation.give_up()
        if all(operation.ended for operation in one.operations):
            self._close(one)
        else:
            self._rest(one)

    def _close(self, one: Round) -> None:
        self._asked.pop(one.number, None)
        if self.rounds.get(one.key) is one:
            del self.rounds[one.key]
            self._done(one.key)

    # -- time and links -------------------------------------------------------------------------

    def tick(self, now_us: int) -> None:
        """End what is late, and go on with what rests."""
        self.now_us = now_us
        for one in list(self.rounds.values()):
            for operation in one.operations:
                if operation.deadline_us <= now_us:
                    operation.give_up()
            if all(operation.ended for operation in one.operations):
                self._close(one)
            elif one.rest_ticks:
                one.rest_ticks -= 1
                if not one.rest_ticks:
                    self._attempt(one, "prepare")
            elif one.phase == "query" and one.is_majority(one.states):
                self._attempt(one, "prepare")  # they differ, and the others take their time

    def on_link_down(self, link: Link) -> None:
        """Wait no more for what a peer still had to answer."""
        for one in [one for one in self.rounds.values() if link.id in one.waits_for]:
            one.waits_for.discard(link.id)
            self._check_hope(one)

    def on_map(self) -> None:
        """Begin anew what was asked by a map in which the range had other holders."""
        for one in list(self.rounds.values()):
            if one.number and self.state.fence[one.index] > one.epoch:
                self._attempt(one, "prepare")

    def give_up(self) -> None:
        """End everything: what this node accepted last may never be kept."""
        for one in list(self.rounds.values()):
            for operation in one.operations:
                operation.give_up()
            self._close(one)
