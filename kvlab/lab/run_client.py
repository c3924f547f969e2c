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
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from kvlab.errors import DefiniteError, UncertainError
from kvlab.experiment.lateness import LATE
from kvlab.history import MADE, Event, EventType, Function, Outcome, Recorder, outcome_of
from kvlab.lab.run_resp import RunResp
from kvlab.live.client import Client
from kvlab.live.security import OPEN, Access
from kvlab.rng import Rng
from kvlab.spec.scenario import CART_VERBS, OperationSpec
from kvlab.wire.json_lines import Reply

CONNECT_S_MAX = 0.5
RETRY_S = 0.02  # from a node that cannot be reached to the next one
WEAK_LEVELS = ("one",)
CONFLICT = "CONFLICT"  # the code of a cas that did not find what it expected
TURNED_AWAY = "ENDING"  # the node is being stopped and did nothing

Address = tuple[str, int]


class Asker(Protocol):
    """What a client of a run asks through: one connection to one node."""

    async def request(self, kind: str, key: str = "", value: str = "", **extras: Any) -> Reply:
        """Ask and return the answer; raises DefiniteError or UncertainError if there is none."""

    async def close(self) -> None:
        """End the connection."""


@dataclass(frozen=True, slots=True)
class Tongue:
    """How clients speak with the servers of a run."""

    protocol: str = "json"  # or resp
    is_ours: bool = True  # else nothing is asked that only kvlab's nodes know
    access: Access = OPEN  # what the nodes ask for

    def asker(self, address: Address, timeout_us: int) -> Asker:
        """Return a connection to be made to a node."""
        timeout_s = timeout_us / 1e6
        connect_s = min(CONNECT_S_MAX, timeout_s)
        if self.protocol == "resp":
            return RunResp(address, timeout=timeout_s, connect_timeout=connect_s)
        return Client(address, timeout=timeout_s, connect_timeout=connect_s, access=self.access)


OURS = Tongue()


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
        tongue: Tongue = OURS,
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
        self._tongue = tongue
        self._seen = ""  # what the last operation was told
        self._failed = ""  # why the last operation did not succeed
        self._at = ""
        self._connection: tuple[str, int, Asker] | None = None

    async def run(
        self, operations: Sequence[OperationSpec], until: Callable[[int], Awaitable[None]]
    ) -> None:
        """Do operations in their order; `until` waits for a time of the run."""
        try:
            for operation in operations:
                await until(operation.at_us)
                await (self._add if operation.verb in CART_VERBS else self.do)(operation)
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
        self._failed = error
        self._seen = reply.value if reply is not None and reply.status == "SUCCESS" else ""
        if outcome == "info":
            self._renamed += 1
            self._as = f"{self.name}.{self._renamed}"
        return outcome == "ok"

    async def _add(self, operation: OperationSpec) -> bool:
        """Read a list and write it back with one thing more; swapped, until it was as it was read."""
        verb = "set" if operation.verb == "add" else "cas"
        until_us = max(operation.at_us, self._now_us()) + operation.timeout_us
        while True:
            if not await self.do(replace(operation, verb="get", value="")):
                return False
            seen = self._seen
            try:
                things = msgspec.json.decode(seen or "[]", type=list[Any])
            except (msgspec.DecodeError, msgspec.ValidationError):
                things = []  # what is there is for the check to judge
            text = msgspec.json.encode([*things, operation.value]).decode()
            write = replace(operation, verb=verb, value=text, expected=seen)
            if await self.do(write):
                return True
            if verb == "set" or self._failed != CONFLICT or self._now_us() > until_us:
                return False
            operation = replace(operation, at_us=self._now_us())

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
        extras = self._extras(operation, number, retry=retry) if self._tongue.is_ours else {}
        if verb == "CAS":
            extras["expected"] = operation.expected or None
        elif verb == "INCR":
            extras["by"], value = int(value or 1), ""
        return await client.request(verb, operation.key, value, **extras)

    def _extras(self, operation: OperationSpec, number: int, *, retry: bool) -> dict[str, Any]:
        """Return what only kvlab's own nodes are asked beside."""
        level = operation.level or None
        if self._ns == "eventual":
            return {"level": level, "meta": operation.meta or None, "req_id": number}
        req_id = f"{self.name}-{number}"
        return {"level": level, "ns": self._ns, "req_id": req_id, "retry": retry or None}

    async def _connected(self, timeout_us: int) -> Asker:
        """Return a client of the chosen node; another one's connection is ended."""
        if self._connection is not None and self._connection[:2] != (self._at, timeout_us):
            await self.close()
        if self._connection is None:
            client = self._tongue.asker(self._addresses[self._at], timeout_us)
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
            elif f in MADE and kind == "ok" and reply.value and not operation.again:
                # What was asked again may be told what the first time made, or what is there now.
                event.value = reply.value
        self._recorder.add(event)
