"""The linear namespace of one node: operations from clients and peers, one after the other per key.

It routes and queues; how a key is agreed on is the business of `proposer`. Operations on a key go to
the first of its replicas that can be reached (a sticky proposer): two proposers of one key would undo
each other's rounds. That is for speed; correctness rests on the rounds alone.

The messages, as controls of the peer frames:

    ["do", number, key, kind, args, request, retry, since_us, left_us]   do this for me
    ["did", number, code, error, value]
    ["register", what, number, ...]                     rounds, see `proposer`: query, prepare, accept
    ["answer", number, ...]                             see `acceptor`

Invariants:

1. Every operation ends exactly once, a bounded time after it came.
2. A change that was handed on and whose end is not known ends as UNKNOWN. It is not done here as well:
   found to change nothing, it would be told not to have happened, and a peer that was held up could do
   it after that. What only looks is handed on again.
3. At most OPERATIONS_MAX operations are under way here.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from kvlab.kv.acceptor import Acceptor
from kvlab.kv.link import Link
from kvlab.kv.operation import FEW, LOOKS, UNSURE, Operation
from kvlab.kv.proposer import Proposer
from kvlab.kv.register import Outcome, args_of, fits, register_of
from kvlab.kv.state import State
from kvlab.ring.slot import slot_of
from kvlab.storage.registers import WINDOW
from kvlab.wire.peer import FrameError, is_version

LINEAR_CONTROLS = ("register", "answer", "do", "did")
OPERATIONS_MAX = 20_000
TIMEOUT_US_MAX = 60_000_000  # that a peer can ask for
TOUCHES_MAX = 1000  # of keys at once that nobody asked for
TOUCH_US = 2_000_000
BUSY = Outcome("BUSY", "too many operations are under way; try again later")


class Linear:
    """All operations on registers that one node has to do with."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.acceptor = Acceptor(state)
        self.proposer = Proposer(state, self.acceptor, self._ended)
        self._waiting: dict[bytes, deque[Operation]] = {}  # by key; those of its round apart
        self._ready: deque[bytes] = deque()  # keys whose round has ended
        self._handed: dict[int, tuple[str, Operation]] = {}  # to whom, by number
        self._count = 0
        self._touches: set[bytes] = set()

    def submit(self, operation: Operation) -> None:
        """Begin an operation of a client of this node."""
        if self._count >= OPERATIONS_MAX:
            operation.conclude(UNSURE if operation.may_have_happened else BUSY)
            return
        self._count += 1
        end = operation.end

        def ended(one: Operation, outcome: Outcome) -> None:
            self._count -= 1
            end(one, outcome)

        operation.end = ended
        self._route(operation)

    def _route(self, operation: Operation) -> None:
        """Hand it to who proposes for its key, or do it here."""
        state = self.state
        if state.map is None or not state.serving:
            operation.give_up()
            return
        first = self._first(operation.key)
        if first == state.settings.id or (operation.hops and not state.refusal):
            self._queue(operation)
        elif not first or operation.hops:
            operation.give_up()
        else:
            now_us = self.proposer.now_us
            number = state.clock.next(now_us)  # no earlier life of this node has given it
            self._handed[number] = (first, operation)
            operation.hops += 1
            left_us = max(0, operation.deadline_us - now_us)
            what = [operation.key, operation.kind, operation.args, operation.request]
            what += [operation.retry, operation.since_us, left_us]
            state.up[first].controls.append(["do", number, *what])

    def _first(self, key: bytes) -> str:
        """Return who proposes for a key: the first replica that can be reached; "" if none can.

        A node that can keep nothing makes no ballots: it could not know them in its next life.
        """
        state = self.state
        assert state.map is not None
        me = "" if state.refusal else state.settings.id
        place = state.map.ranges[slot_of(key) >> state.shift]
        there = (one for one in place.replicas if one == me or one in state.current_up)
        return next(there, me)

    # -- one after the other --------------------------------------------------------------------

    def _queue(self, operation: Operation) -> None:
        key = operation.key
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque((operation,))
            self._ready.append(key)
            if len(self._ready) == 1:
                self._go_on()
        else:
            waiting.append(operation)

    def _ended(self, key: bytes) -> None:
        """A round has ended: what waits for its key has its turn."""
        self._ready.append(key)
        if len(self._ready) == 1:
            self._go_on()

    def _go_on(self) -> None:
        """Begin rounds. One that ends at once does not call this again, or it would go ever deeper."""
        while self._ready:
            key = self._ready[0]
            waiting, turn = self._waiting[key], list[Operation]()
            while waiting and len(turn) < WINDOW:
                if not (operation := waiting.popleft()).ended:
                    turn.append(operation)
            if turn:
                self.proposer.begin(key, slot_of(key) >> self.state.shift, turn)
            else:
                del self._waiting[key]
            self._ready.popleft()

    def touch(self, key: bytes) -> None:
        """See to it that what is chosen of a key is with a majority, this node included."""
        if self.state.refusal:
            return
        if key not in self._touches and len(self._touches) < TOUCHES_MAX:
            self._touches.add(key)
            until_us = self.proposer.now_us + TOUCH_US
            self._queue(Operation(key, "touch", [], 0, until_us, self._touched))

    def _touched(self, operation: Operation, _outcome: Outcome) -> None:
        self._touches.discard(operation.key)

    # -- time, links, maps ----------------------------------------------------------------------

    def tick(self, now_us: int) -> None:
        """End what is late."""
        self.proposer.tick(now_us)
        for waiting in self._waiting.values():
            for operation in waiting:
                if operation.deadline_us <= now_us:
                    operation.give_up()
        for number, (_, operation) in list(self._handed.items()):
            if operation.deadline_us <= now_us:
                del self._handed[number]
                operation.sent = operation.kind not in LOOKS
                operation.give_up()

    def on_link_down(self, link: Link) -> None:
        """End what a peer was asked to change, look elsewhere; wait no more for its answers."""
        lost = [number for number, (peer, _) in self._handed.items() if peer == link.id]
        for number in lost:
            _, operation = self._handed.pop(number)
            if operation.kind in LOOKS:
                self._route(operation)
            else:
                operation.sent = True
                operation.give_up()
        self.proposer.on_link_down(link)

    def give_up(self) -> None:
        """End all, as what was accepted here last may never be kept."""
        waiting = [one for each in self._waiting.values() for one in each]
        for operation in (*waiting, *(one for _, one in self._handed.values())):
            operation.give_up()
        self._handed.clear()
        self.proposer.give_up()

    # -- messages -------------------------------------------------------------------------------

    def on_control(self, link: Link, control: list[Any], now_us: int) -> None:
        """Take one of LINEAR_CONTROLS; FrameError or ValueError if it is malformed."""
        match control:
            case ["register", *message]:
                self._on_register(link, message)
            case ["answer", int(number), *answer]:
                self.proposer.on_answer(link, number, tuple(answer))
            case ["do", *message]:
                self._on_do(link, message, now_us)
            case ["did", int(number), str(code), str(error), value]:
                self._on_did(link, number, code, error, value)
            case _:
                raise FrameError(f"a malformed message of {link.id} about a register")

    def _on_do(self, link: Link, message: list[Any], now_us: int) -> None:
        """Do an operation for a peer."""
        match message:
            case [int(number), bytes(key), str(kind), list(args), str() | int() as request, *rest]:
                retry, since_us, left_us = rest
                args = args_of(args)
                if not (fits(kind, args) and is_version(since_us) and is_version(left_us)):
                    raise FrameError(f"an operation of {link.id} that cannot be")
            case _:
                raise FrameError(f"a malformed operation of {link.id}")

        def ended(_: Operation, outcome: Outcome) -> None:
            if link.up:  # else nobody waits for it; the peer was told that the link ended
                link.controls.append(["did", number, *outcome])

        until_us = now_us + min(left_us, TIMEOUT_US_MAX)
        operation = Operation(
            key, kind, args, request, until_us, ended, bool(retry), since_us, hops=1
        )
        if self.state.map is None or not self.state.is_open:
            operation.conclude(FEW)
        else:
            self.submit(operation)

    def _on_did(self, link: Link, number: int, code: str, error: str, value: Any) -> None:
        """A peer has done an operation, or has not."""
        peer, operation = self._handed.get(number, ("", None))
        if operation is None or peer != link.id:
            return
        del self._handed[number]
        if operation.may_have_happened and code in ("UNAVAILABLE", "BUSY"):
            operation.give_up()  # so it was not done now; nobody knows whether it was before
        else:
            operation.conclude(Outcome(code, error, value))

    def _on_register(self, link: Link, message: list[Any]) -> None:
        """Answer a proposer."""
        match message:
            case [str(what), int(number), int(epoch), bytes(key), int(ballot), *rest]:
                index = slot_of(key) >> self.state.shift
            case _:
                raise FrameError(f"a malformed question of {link.id}")
        match what, rest:
            case "query", [_]:
                answer = self.acceptor.query(index, key, epoch, ballot)
            case "prepare", [int(asked)] if is_version(asked):
                self.state.clock.observe(asked, self.proposer.now_us)
                answer = self.acceptor.prepare(index, key, epoch, ballot, asked)
            case "accept", [*body, int(following)] if is_version(ballot) and is_version(following):
                self.state.clock.observe(following, self.proposer.now_us)
                register = register_of(ballot, body)
                answer = self.acceptor.accept(index, key, epoch, register, following)
            case _:
                raise FrameError(f"a question of {link.id} that is unknown or malformed")
        link.controls.append(["answer", number, *answer])
