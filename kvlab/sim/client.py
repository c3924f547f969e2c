"""A simulated client: it sends the operations of its plan to nodes and notes what came of them.

It speaks the JSON protocol through the same codec as the real clients. What is uncertain stays so in
the history; only operations that say `again` are asked once more, of another node.

Invariants:

1. An operation that was sent ends as its reply says, or as `info` (a get: `fail`) when the connection
   ends or time runs out first. One that was never sent ends as `fail`.
2. After an `info` the client goes on under another name, so that a name has one operation in flight.
3. Replies come in the order of requests; anything else is noted as wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kvlab.errors import KvlabError
from kvlab.history import Event, EventType, Function, Recorder, outcome_of
from kvlab.rng import Rng
from kvlab.sim.clock import Clock, Timer
from kvlab.sim.network import Network
from kvlab.sim.stream import End, Owner, Power
from kvlab.sim.watch import Watch
from kvlab.spec.scenario import OperationSpec
from kvlab.wire.json_lines import Reply, ReplyReader, encode_request

CONNECT_US_MAX = 500_000
RETRY_US = 20_000  # from a connection that failed to the next try
PIPELINE_MAX = 16  # operations under way at once
AGAIN_US_MAX = 5_000_000  # that nobody is found who could be asked once more
EAGER_SHARE = 0.3  # of clients send what is due while replies are outstanding
WEAK_LEVELS = ("one",)


@dataclass(slots=True)
class Sent:
    """An operation under way."""

    operation: OperationSpec
    number: int
    name: str  # of the client in the history
    until_us: int  # no reply by then: it is given up
    first_us: int  # when it was sent for the first time
    at: str  # whom it was asked
    again: bool  # it may be asked once more


class Client:
    """One client on a machine of its own."""

    power: Power = "up"

    def __init__(
        self,
        name: str,
        operations: Sequence[OperationSpec],
        *,
        nodes: Sequence[str],
        clock: Clock,
        network: Network,
        recorder: Recorder,
        watch: Watch,
        rng: Rng,
        ns: str = "eventual",
        final: bool = False,
        done: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = name
        self.done = False
        self.failed_finals: list[str] = []
        self._as = name  # the name in the history
        self._renamed = 0
        self._operations = deque(operations)
        self._nodes = list(nodes)
        self._clock = clock
        self._network = network
        self._recorder = recorder
        self._watch = watch
        self._rng = rng
        self._ns = ns
        self._final = final
        self._call_done = done
        self._eager = not final and rng.random() < EAGER_SHARE
        self._sent: deque[Sent] = deque()
        self._again: deque[Sent] = deque()  # to be asked once more
        self._count = 0
        self._at = ""  # the node that this client is connected to, or wants to be
        self._end: End | None = None
        self._connected = False
        self._reader = ReplyReader()
        self._timer: Timer | None = None  # of what is waited for
        self._next: Timer | None = None  # when the next operation is due
        network.machines[name] = self
        self._wake()

    # -- a machine and the owner of its connection ----------------------------------------------

    def hear(self, call: Callable[..., object], *arguments: Any) -> None:
        """Run an event of the network: clients are never paused."""
        call(*arguments)

    def accept(self, end: End) -> Owner:
        """Nobody connects to a client."""
        raise AssertionError(f"{end.peer} connected to a client")

    def opened(self, end: End) -> None:
        """The connection is there."""
        if end is self._end:
            self._connected = True
            self._reader = ReplyReader()
            self._set_timer(None)
            self._send()

    def data(self, end: End, data: bytes) -> None:
        """Replies, or pieces of them."""
        if end is not self._end:
            return
        try:
            replies = self._reader.feed(data)
        except KvlabError as error:
            self._watch.wrong("answers", f"{self._at} said what is no reply: {error.message}")
            self._give_up("bad reply")
            return
        for reply in replies:
            self._take(reply)
        self._await()
        if not self._sent or self._eager:
            self._wake()

    def eof(self, end: End) -> None:
        """The node ended the connection."""
        end.close()

    def lost(self, end: End) -> None:
        """The connection is over."""
        if end is self._end:
            self._give_up("connection lost")

    def pause_writing(self, end: End) -> None:
        """A pipeline is short."""

    def resume_writing(self, end: End) -> None:
        """Nothing was held back."""

    # -- sending --------------------------------------------------------------------------------

    def _wake(self, after_us: int = 0) -> None:
        """Go on with the next operation when it is due, and some time has passed."""
        if self._next is not None:
            self._next.cancel()
        if self._operations or self._again:
            at_us = self._clock.now_us + after_us
            if not self._again:
                at_us = max(self._operations[0].at_us, at_us)
            self._next = self._clock.at(at_us, self._begin)
        elif not self._sent and not self.done:
            self.done = True
            if self._end is not None:
                end, self._end = self._end, None
                end.close()
            self._call_done()

    def _begin(self) -> None:
        if self._again:
            if self._connected and self._at != self._again[0].at:
                self._send()
            elif not self._sent:
                self._connect("")
            return
        if not self._operations or (self._sent and not self._eager):
            return
        wanted = self._operations[0].node
        if self._connected and (not wanted or wanted == self._at):
            self._send()
        elif not self._sent:
            self._connect(wanted)

    def _connect(self, wanted: str) -> None:
        if self._end is not None:
            end, self._end, self._connected = self._end, None, False
            end.close()
        others = [one for one in self._nodes if one != self._at] or self._nodes
        self._at = wanted or self._rng.choice(others)
        self._end = self._network.connect(self.name, self._at, self)
        self._set_timer(self._clock.after(CONNECT_US_MAX, self._give_up, "no connection"))

    def _send(self) -> None:
        """Send all operations that are due, in one write."""
        now_us, parts = self._clock.now_us, list[bytes]()
        while self._again:
            sent = self._again.popleft()
            sent.again, sent.at, sent.until_us = False, self._at, now_us + sent.operation.timeout_us
            parts.append(self._encode(sent.operation, sent.number, first_us=sent.first_us))
            self._sent.append(sent)
        while self._operations and len(self._sent) < PIPELINE_MAX:
            operation = self._operations[0]
            if operation.at_us > now_us or operation.node not in ("", self._at):
                break
            self._operations.popleft()
            number = self._invoke(operation)
            parts.append(self._encode(operation, number))
            until_us = now_us + operation.timeout_us
            self._sent.append(
                Sent(operation, number, self._as, until_us, now_us, self._at, operation.again)
            )
        if parts and self._end is not None:
            self._await()
            self._end.write(b"".join(parts))
        if len(self._sent) < (PIPELINE_MAX if self._eager else 1):
            self._wake()

    def _await(self) -> None:
        """Give up when the oldest operation under way has waited too long."""
        timer = None
        if self._sent:
            timer = self._clock.at(self._sent[0].until_us, self._give_up, "timeout")
        self._set_timer(timer)

    def _set_timer(self, timer: Timer | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer

    # -- outcomes -------------------------------------------------------------------------------

    def _take(self, reply: Reply) -> None:
        if not self._sent:
            self._watch.wrong("answers", f"{self._at} answered what {self.name} did not ask")
            return
        sent = self._sent.popleft()
        operation, number, name = sent.operation, sent.number, sent.name
        self._watch.judged["answers"] += 1
        if reply.key != operation.key or reply.req_id not in (None, self._id(number)):
            what = (
                f"{operation.verb} {operation.key} (op {number}) with {reply.key}, {reply.req_id}"
            )
            self._watch.wrong("answers", f"{self._at} answered {what}: out of order")
        f = operation.verb
        outcome, error = outcome_of(f, reply.status, reply.code, reply.error)
        self._watch.saw(f"reply: {f} {error or outcome}{' degraded' if reply.degraded else ''}")
        if outcome == "info" and sent.again:
            self._again.append(sent)
            return
        event = self._event(outcome, operation, number, name)
        event.error, event.version = error, reply.version
        # What was asked to be weak promises no more than what had to be.
        weak = operation.level in WEAK_LEVELS
        event.degraded = reply.degraded or weak
        if f == "get" and outcome == "ok":
            event.value = reply.value if reply.status == "SUCCESS" else None
        self._recorder.add(event)
        if self._final and outcome != "ok":
            self.failed_finals.append(f"{operation.key} at {self._at}: {error or outcome}")
        if outcome == "info":
            self._rename()

    def _give_up(self, why: str) -> None:
        """End what is under way on this connection, and turn to another node."""
        self._set_timer(None)
        end, self._end, self._connected = self._end, None, False
        if end is not None:
            end.abort()
        unsure = False
        while self._sent:
            sent = self._sent.popleft()
            if sent.again:
                self._again.append(sent)
                continue
            unsure = True
            operation, number, name = sent.operation, sent.number, sent.name
            self._watch.saw(f"reply: {operation.verb} {why}")
            kind: EventType = "fail" if operation.verb == "get" else "info"
            event = self._event(kind, operation, number, name)
            event.error = why
            self._recorder.add(event)
            if self._final:
                self.failed_finals.append(f"{operation.key} at {self._at}: {why}")
        if unsure:
            self._rename()
        self._drop_late(why)
        self._wake(RETRY_US)

    def _drop_late(self, why: str) -> None:
        """Give up operations that could not be sent in their time."""
        now_us = self._clock.now_us
        while self._again and self._again[0].until_us + AGAIN_US_MAX < now_us:
            sent = self._again.popleft()
            kind: EventType = "fail" if sent.operation.verb == "get" else "info"
            event = self._event(kind, sent.operation, sent.number, sent.name)
            event.error = why
            self._recorder.add(event)
        while (
            self._operations and self._operations[0].at_us + self._operations[0].timeout_us < now_us
        ):
            operation = self._operations.popleft()
            event = self._event("fail", operation, self._invoke(operation), self._as)
            event.error = why
            self._recorder.add(event)
            if self._final:
                self.failed_finals.append(f"{operation.key} at {self._at}: {why}")

    def _rename(self) -> None:
        self._renamed += 1
        self._as = f"{self.name}.{self._renamed}"

    def _invoke(self, operation: OperationSpec) -> int:
        self._count += 1
        event = self._event("invoke", operation, self._count, self._as)
        event.node = self._at
        if operation.value:
            event.value = operation.value
        if operation.verb == "cas":
            event.expected = operation.expected or None
        event.intended_us = operation.at_us
        self._recorder.add(event)
        return self._count

    def _event(self, kind: EventType, operation: OperationSpec, number: int, name: str) -> Event:
        f: Function = operation.verb  # type: ignore[assignment]  # the spec allows no other
        return Event(
            t_us=self._clock.now_us,
            client=name,
            op=number,
            type=kind,
            f=f,
            key=operation.key,
            final=self._final,
        )

    def _id(self, number: int) -> int | str:
        """Return the id of a request: in the linear namespace no two clients give the same."""
        return number if self._ns == "eventual" else f"{self.name}-{number}"

    def _encode(self, operation: OperationSpec, number: int, *, first_us: int = -1) -> bytes:
        """Return one request: plain where nothing special is asked, as most real ones are."""
        verb, key = operation.verb.upper(), operation.key
        value = operation.value if operation.verb not in ("get", "delete", "incr") else None
        if self._ns == "eventual":
            if not operation.meta and not operation.level:
                return encode_request(verb, key, value)
            level, meta = operation.level, operation.meta
            return encode_request(verb, key, value, level=level, meta=meta, req_id=number)
        return encode_request(
            verb,
            key,
            value,
            ns=self._ns,
            req_id=self._id(number),
            expected=operation.expected or None,
            by=int(operation.value or 1) if operation.verb == "incr" else 1,
            retry=first_us >= 0,
        )
