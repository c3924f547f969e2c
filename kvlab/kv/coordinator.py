"""A node as coordinator: what clients ask, handed to the replicas. It reads no clock, does no I/O.

It follows the routes of the map and never changes them. Operations end in `quorum`; questions about
the node itself are answered by `admin`.

Invariants:

1. A version is given once, when the request arrives, so that the order of a pipeline is the order of
   its versions, and a request that is routed again writes nothing twice.
2. Every request gets exactly one reply, at its place in its batch.
3. An error other than UNKNOWN means that nothing happened.
4. A batch holds about REPLY_BYTES_MAX of values. What was asked beyond them is left in `state.rest`,
   not begun, for the shell to hand in again when the client has taken what came before.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kvlab.kv.alone import NO_VALUE, Alone
from kvlab.kv.answer import REPLY_BYTES_MAX, Batch, failure, success
from kvlab.kv.group import Group, Route
from kvlab.kv.linear import Linear
from kvlab.kv.linear_client import NAMESPACE, ONLY_LINEAR, operation_of, problem, to_store
from kvlab.kv.quorum import Quorum
from kvlab.kv.state import State
from kvlab.ring.slot import slot_of
from kvlab.wire.json_lines import (
    PlainRequest,
    Refusal,
    Request,
    reply_class,
    rfc3339,
)
from kvlab.wire.peer import DELETE, READ

TIMEOUT_MS_MAX = 60_000
NAMESPACES = ("", "eventual", NAMESPACE)
AVAILABLE = "available"  # the default: with fewer replicas than wanted, by those there are
ATOMIC = "atomic"
LEVELS = (AVAILABLE, "one", "quorum", "all", ATOMIC)
DATA_VERBS = ("GET", "SET", "DELETE")
ALL_DATA_VERBS = (*DATA_VERBS, *ONLY_LINEAR)
CONDITIONAL = "writes what depends on what is there, which needs the linear namespace"
WRONG_CODES = ("BAD_REQUEST", "BAD_TYPE", "WRONG_MODE")  # the request's own fault


class Coordinator:
    """The client side of one node. `admin(request) -> info` answers all verbs that are not of data."""

    def __init__(
        self,
        state: State,
        quorum: Quorum,
        linear: Linear,
        admin: Callable[[Request, int], dict[str, Any] | str],
        starting: Callable[[], str],
    ) -> None:
        self.state = state
        self.quorum = quorum
        self.linear = linear
        self.alone = Alone(state)
        self._admin = admin
        self._starting = starting
        self._stamp_ms = 0
        self._stamp_text = ""

    def receive(
        self,
        conn: Any,
        items: Sequence[Request | Refusal],
        now_us: int,
        *,
        camel: bool = False,
        uniform: bool = True,
    ) -> Batch:
        """Begin a batch of requests, in order. `batch.pending` is 0 if all have ended already.

        `uniform`: all items are Requests of the casing `camel`.
        """
        state = self.state
        batch = Batch(conn, self._stamp(now_us), now_us, camel=camel)
        state.requests += len(items)
        general = not uniform or not state.is_open
        each = iter(items)
        for item in each:
            if not general and isinstance(item, Request) and _is_plain(item):
                self._plain(batch, item, now_us)
            else:
                self._general(batch, item, now_us)
            if batch.heavy_bytes > REPLY_BYTES_MAX:
                self._leave(each)
        return batch

    def receive_plain(
        self, conn: Any, items: Sequence[PlainRequest], now_us: int, *, camel: bool
    ) -> Batch | bytes:
        """Begin a batch of GET, SET and DELETE without options.

        Where nobody else must be asked, return the bytes of all replies.
        """
        state = self.state
        if state.solo:
            return self.alone.serve(items, now_us, camel=camel)
        state.requests += len(items)
        batch = Batch(conn, self._stamp(now_us), now_us, camel=camel)
        if state.is_open:
            each = iter(items)
            for request in each:
                self._plain(batch, request, now_us)
                if batch.heavy_bytes > REPLY_BYTES_MAX:
                    self._leave(each)
        else:
            for request in items:
                error = self._starting()
                code = state.why_closed
                tell = failure(request.key, code, error, batch.stamp, camel=camel)
                batch.replies.append(tell)
            batch.plain = False
        return batch

    def _leave(self, rest: Iterator[Any]) -> None:
        """Leave requests to the shell, because their batch is heavy enough."""
        self.state.rest = list(rest)
        self.state.requests -= len(self.state.rest)

    def _stamp(self, now_us: int) -> str:
        """Return the time as text; one millisecond's is made once."""
        now_ms = now_us // 1000
        if now_ms != self._stamp_ms:
            self._stamp_ms, self._stamp_text = now_ms, rfc3339(now_us)
        return self._stamp_text

    # -- the default level ----------------------------------------------------------------------

    def _plain(self, batch: Batch, request: PlainRequest | Request, now_us: int) -> None:
        """Begin a GET, SET or DELETE that has a key and no options."""
        kind, text, state = request.type, request.key, self.state
        assert text is not None
        key = text.encode()
        slot = slot_of(key) if 123 in key else crc_hqx(key, 0) & 16383
        route = state.routes[slot >> state.shift]
        if kind == "GET":
            batch.replies.append(b"")  # made when the first replica has spoken
            version = 0
            value: Any = READ
        else:
            batch.acknowledge(text)
            version, value = state.clock.next(now_us), DELETE
            if kind == "SET":
                if request.value is None:
                    state.counters["bad_requests"] += 1
                    batch.fail(len(batch.replies) - 1, text, "BAD_REQUEST", NO_VALUE)
                    return
                value = request.value
        if self._is_open(batch, route, key, text, writes=value is not READ):
            group = self.quorum.group(route, now_us + state.settings.timeout_us)
            self._submit(group, batch, key, version, value)

    def operate(self, batch: Batch, key: bytes, value: Any, now_us: int) -> None:
        """Begin an operation of another protocol; its reply has the last place in the batch.

        `value` is what to write, READ or DELETE. The key is UTF-8 and there are routes.
        """
        state = self.state
        route = state.routes[slot_of(key) >> state.shift]
        if self._is_open(batch, route, key, "", writes=value is not READ):
            version = 0 if value is READ else state.clock.next(now_us)
            group = self.quorum.group(route, now_us + state.settings.timeout_us)
            self._submit(group, batch, key, version, value)

    def _submit(self, group: Group, batch: Batch, key: bytes, version: int, value: Any) -> None:
        batch.pending += 1
        self.quorum.add(group, batch, len(batch.replies) - 1, key, version, value)

    def _is_open(
        self, batch: Batch, route: Route, key: bytes, text: str, need: int = 1, *, writes: bool
    ) -> bool:
        """Whether an operation can start; if not, its reply says why and that nothing happened."""
        if writes and self.state.refusal:
            error = f"this node takes no writes: {self.state.refusal}"
            batch.fail(len(batch.replies) - 1, text, "READ_ONLY", error)
            return False
        if key in self.state.doubtful:
            error = f"this node may not have kept the key's last value: {self.state.refusal}"
            batch.fail(len(batch.replies) - 1, text, "UNAVAILABLE", error)
            return False
        if route.reachable < need:
            error = f"{route.reachable} of {len(route.replicas)} replicas can be reached"
            if need > 1:
                error += f", {need} are needed"
            batch.fail(len(batch.replies) - 1, text, "UNAVAILABLE", error)
            return False
        if self.quorum.is_full:
            error = "too many operations wait for their replicas; try again later"
            batch.fail(len(batch.replies) - 1, text, "BUSY", error)
            return False
        return True

    # -- everything else ------------------------------------------------------------------------

    def _general(self, batch: Batch, item: Request | Refusal, now_us: int) -> None:
        """Answer whatever is not a plain request: with options, about the node, or wrong."""
        batch.plain = False
        stamp, camel = batch.stamp, item.camel
        if isinstance(item, Refusal):
            self.state.counters["bad_requests"] += 1
            reply = failure("", item.code, item.error, stamp, camel=camel)
        elif item.type in ALL_DATA_VERBS:
            self._with_options(batch, item, now_us)
            return
        else:
            info = self._admin(item, now_us)
            key = item.key or ""
            if isinstance(info, str):
                code, _, error = info.partition(": ")
                self._count_bad(code)
                reply = failure(key, code, error, stamp, camel=camel)
            else:
                reply = success(key, "", stamp, camel=camel)
                reply.info = info
        reply.req_id = item.req_id
        batch.replies.append(reply)

    def _with_options(self, batch: Batch, request: Request, now_us: int) -> None:
        """Begin an operation that may carry options, or lack what it needs."""
        key = request.key or ""
        reply = reply_class(request.camel)("RESPONSE", key, "", batch.stamp, "SUCCESS", "")
        reply.req_id = request.req_id
        batch.replies.append(reply)
        index = len(batch.replies) - 1
        code, error = self._problem(request)
        if code:
            self._count_bad(code)
            batch.fail(index, key, code, error)
            return
        state = self.state
        raw = key.encode()
        timeout_us = request.timeout_ms * 1000 or state.settings.timeout_us
        if request.meta:
            reply.node = state.settings.id
        if request.ns == NAMESPACE:
            request_id = state.clock.next(now_us)
            until_us = now_us + timeout_us
            self.linear.submit(
                operation_of(request, batch, index, self.quorum, request_id, until_us)
            )
            return
        route = state.routes[slot_of(raw) >> state.shift]
        need = _need(request, len(route.replicas))
        if need:
            route = route.owners
        if not self._is_open(batch, route, raw, key, need or 1, writes=request.type != "GET"):
            return
        if need or request.timeout_ms:
            wanted, until_us = need or max(route.r, route.w), now_us + timeout_us
            atomic = request.level == ATOMIC
            group = self.quorum.explicit(route, wanted, until_us, strict=need > 0, atomic=atomic)
        else:
            group = self.quorum.group(route, now_us + timeout_us)
        if request.meta:
            if group.metas is None:
                group.metas = []
            group.metas.append((batch, index, len(group.owners)))
        version = 0 if request.type == "GET" else state.clock.next(now_us)
        value = {"GET": READ, "SET": to_store(request, now_us), "DELETE": DELETE}[request.type]
        if group.atomic and value is not READ:
            group.then[len(group.owners)] = value
            version, value = 0, READ
        self._submit(group, batch, raw, version, value)

    def _count_bad(self, code: str) -> None:
        if code in WRONG_CODES:
            self.state.counters["bad_requests"] += 1

    def _problem(self, request: Request) -> tuple[str, str]:
        """Say what is wrong with a request: (code, sentence), or ("", "")."""
        if request.key is None:
            return "BAD_REQUEST", f'{request.type} needs a "key" that is a string'
        if request.type == "SET" and request.value is None:
            return "BAD_REQUEST", NO_VALUE
        if request.ns not in NAMESPACES:
            error = f'there is no namespace {request.ns!r} here; use "eventual" or "{NAMESPACE}"'
            return "WRONG_MODE", error
        if request.ns != NAMESPACE and request.type in ONLY_LINEAR:
            return "WRONG_MODE", f'{request.type} {CONDITIONAL} (send "ns":"{NAMESPACE}")'
        if request.ns == NAMESPACE and (error := problem(request)):
            return "BAD_REQUEST", error
        if request.level and request.level not in LEVELS:
            known = ", ".join(LEVELS)
            return "BAD_REQUEST", f"there is no level {request.level!r}; use one of: {known}"
        if request.level == AVAILABLE and (request.r or request.w):
            return "BAD_REQUEST", f"r and w insist, which the level {AVAILABLE} does not"
        if request.timeout_ms > TIMEOUT_MS_MAX:
            return "BAD_REQUEST", f"timeout_ms is above {TIMEOUT_MS_MAX}"
        if request.ttl_ms and request.type != "SET":
            return "BAD_REQUEST", f"ttl_ms belongs to a SET, not to {request.type}"
        if not self.state.is_open:
            # Of a request that was made before nobody here can say that it did not happen.
            unsure = request.retry and request.type != "GET"
            return "UNKNOWN" if unsure else self.state.why_closed, self._starting()
        return "", ""


def _is_plain(request: Request) -> bool:
    """Whether a request is a GET, SET or DELETE of a key without options."""
    return not (
        request.key is None
        or request.type not in DATA_VERBS
        or request.level
        or request.r
        or request.w
        or request.meta
        or request.ns
        or request.timeout_ms
        or request.ttl_ms
        or request.req_id is not None
    )


def _need(request: Request, copies: int) -> int:
    """Return how many replicas an explicit level asks for; 0 for the default level."""
    if request.level == AVAILABLE:
        return 0
    if request.level:
        majority = copies // 2 + 1
        return {"one": 1, "quorum": majority, "all": copies, ATOMIC: majority}[request.level]
    return request.r if request.type == "GET" else request.w
