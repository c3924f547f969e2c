"""A client of a run: it does the operations of its plan on real nodes and notes what came of them.

It decides nothing about faults and judges nothing. What is uncertain stays so in the history; only
operations that say `again` are asked once more, of another node, under the same id.

Invariants:

1. An operation is begun when it is due, or as soon as the one before it has ended; one that could not
   be begun within its time-out is noted as failed, so the backlog of a client is bounded.
2. What certainly did not happen (nothing was sent, or the node said so) is `fail`; what may have is
   `info`. A get has no effect, so one without an answer is `fail`.
3. After an `info` the client goes on under another name, so that a name has one operation in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from kvlab.errors import DefiniteError, UncertainError
from kvlab.history import Event, EventType, Function, Outcome, Recorder, outcome_of
from kvlab.live.client import Client
from kvlab.rng import Rng
from kvlab.spec.scenario import OperationSpec
from kvlab.wire.json_lines import Reply

CONNECT_S_MAX = 0.5
RETRY_S = 0.02  # from a node that cannot be reached to the next one
WEAK_LEVELS = ("one",)
TURNED_AWAY = "ENDING"  # the node is being stopped and did nothing
LATE = "not sent in time"

Address = tuple[str, int]


class RunClient:
    """One client. Its connections are to one node at a time."""

    def __init__(
        self,
        name: str,
        *,
        addresses: Mapping[str, Address],
        recorder: Recorder,
        now_us: Callable[[], int],
        rng: Rng,
        ns: str,
        final: bool = False,
    ) -> None:
        self.name = name
        self.failed: list[str] = []  # what did not succeed, of final reads
        self._as = name  # the name in the history
        self._renamed = 0
        self._count = 0
        self._addresses = addresses
        self._recorder = recorder
        self._now_us = now_us
        self._rng = rng
        self._ns = ns
        self._final = final
        self._at = ""
        self._connection: tuple[str, int, Client] | None = None

    async def run(
        self, operations: Sequence[OperationSpec], until: Callable[[int], Awaitable[None]]
    ) -> None:
        """Do operations in their order; `until` waits for a time of the run."""
        try:
            for operation in operations:
                await until(operation.at_us)
                await self.do(operation)
        finally:
            await self.close()

    async def close(self) -> None:
        """End the connection; nothing is under way on it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection[2].close()

    async def do(self, operation: OperationSpec) -> bool:
        """Do one operation and record it; say whether it succeeded."""
        self._count += 1
        name, number = self._as, self._count
        began_us = self._now_us()
        self._choose(operation.node)
        self._record("invoke", operation, number, name)
        if began_us > operation.at_us + operation.timeout_us and not self._final:
            self._finish("fail", LATE, operation, number, name)
            return False
        outcome, error, reply = await self._ask_on(operation, number, began_us)
        self._finish(outcome, error, operation, number, name, reply)
        if outcome == "info":
            self._renamed += 1
            self._as = f"{self.name}.{self._renamed}"
        return outcome == "ok"

    async def _ask_on(
        self, operation: OperationSpec, number: int, began_us: int
    ) -> tuple[Outcome, str, Reply | None]:
        """Ask until there is an answer, it may have happened, or time is over."""
        is_read = operation.verb == "get"
        may_ask_again, asked_again = operation.again and not is_read, False
        until_us = began_us + operation.timeout_us
        error = LATE
        while self._now_us() < until_us:
            try:
                reply = await self._ask(operation, number, retry=asked_again)
            except DefiniteError as problem:
                error = problem.code or problem.message
            except UncertainError:
                if not may_ask_again:
                    return "info", "no answer", None
                may_ask_again, asked_again = False, True
                until_us = self._now_us() + operation.timeout_us
            else:
                outcome, error = outcome_of(operation.verb, reply.status, reply.code, reply.error)
                if error != TURNED_AWAY and not (outcome == "info" and may_ask_again):
                    return outcome, error, reply
                if outcome == "info":
                    may_ask_again, asked_again = False, True
                    until_us = self._now_us() + operation.timeout_us
            await self.close()
            self._choose(operation.node)
            await asyncio.sleep(RETRY_S)
        return ("info" if asked_again else "fail"), error, None

    def _choose(self, wanted: str) -> None:
        """Turn to a node: the one that is wanted, the one that is connected, or another."""
        if wanted:
            self._at = wanted
        elif self._connection is not None:
            self._at = self._connection[0]
        else:
            names = list(self._addresses)
            self._at = self._rng.choice([one for one in names if one != self._at] or names)

    async def _ask(self, operation: OperationSpec, number: int, *, retry: bool) -> Reply:
        client = await self._connected(operation.timeout_us)
        verb, value = operation.verb.upper(), operation.value
        extras: dict[str, Any] = {"level": operation.level or None}
        if self._ns == "eventual":
            extras |= {"meta": operation.meta or None, "req_id": number}
        else:
            extras |= {"ns": self._ns, "req_id": f"{self.name}-{number}", "retry": retry or None}
            extras |= {"expected": operation.expected or None}
        if verb == "INCR":
            extras["by"], value = int(value or 1), ""
        return await client.request(verb, operation.key, value, **extras)

    async def _connected(self, timeout_us: int) -> Client:
        """Return a client of the chosen node; another one's connection is ended."""
        if self._connection is not None and self._connection[:2] != (self._at, timeout_us):
            await self.close()
        if self._connection is None:
            timeout_s = timeout_us / 1e6
            client = Client(
                self._addresses[self._at],
                timeout=timeout_s,
                connect_timeout=min(CONNECT_S_MAX, timeout_s),
            )
            self._connection = (self._at, timeout_us, client)
        return self._connection[2]

    # -- the history ----------------------------------------------------------------------------

    def _finish(
        self,
        outcome: Outcome,
        error: str,
        operation: OperationSpec,
        number: int,
        name: str,
        reply: Reply | None = None,
    ) -> None:
        self._record(outcome, operation, number, name, error, reply)
        if self._final and outcome != "ok":
            self.failed.append(f"{operation.key} at {self._at}: {error or outcome}")

    def _record(
        self,
        kind: EventType,
        operation: OperationSpec,
        number: int,
        name: str,
        error: str = "",
        reply: Reply | None = None,
    ) -> None:
        f: Function = operation.verb  # type: ignore[assignment]  # the spec allows no other
        event = Event(
            t_us=self._now_us(),
            client=name,
            op=number,
            type=kind,
            f=f,
            key=operation.key,
            node=self._at,
            error=error,
            final=self._final,
        )
        if kind == "invoke":
            event.intended_us = operation.at_us
            if operation.value:
                event.value = operation.value
            elif operation.verb in ("set", "cas", "append"):
                event.value = ""
            if operation.verb == "cas":
                event.expected = operation.expected or None
        if reply is not None:
            event.version = reply.version
            event.degraded = reply.degraded or operation.level in WEAK_LEVELS
            if f == "get" and kind == "ok":
                event.value = reply.value if reply.status == "SUCCESS" else None
        self._recorder.add(event)
