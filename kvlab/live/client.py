"""The asyncio client: get, set, delete and any other request, to the address that works.

It does not decide what is correct and it never repeats a write that may have happened. For scripts
without an event loop there is `blocking.py`.

    async with Client(["localhost:8081", "localhost:8082"]) as client:
        await client.set("city", "Berlin")
        await client.get("city")                        # "Berlin", or None
        await asyncio.gather(*(client.get(k) for k in keys))    # pipelined on one connection

Invariants:

1. Every call ends within `timeout` for each address tried, plus the time to connect.
2. `DefiniteError` and `UncertainError` mean what client_rules.py says.
3. Requests of one client to one address travel on one connection, in the order of the calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from kvlab.errors import ClientError, DefiniteError
from kvlab.live.client_link import Batch, Link
from kvlab.live.client_messages import (
    RequestLike,
    deleted_of,
    encode,
    info_of,
    make_request,
    make_requests,
    raise_error,
    value_of,
)
from kvlab.live.client_rules import (
    DEFAULT_CONNECT_TIMEOUT_S,
    DEFAULT_PIPELINE_REQUESTS,
    DEFAULT_TIMEOUT_S,
    LOST_REQUESTS_MAX,
    PENDING_REQUESTS_MAX,
    AddressLike,
    Limits,
    LinkError,
    Route,
    connect_reason,
    failure,
    is_read_only,
    is_turned_away,
    parse_addresses,
    worth_repeating,
)
from kvlab.live.knock import connect
from kvlab.live.security import OPEN, Access
from kvlab.rng import Rng
from kvlab.wire.json_lines import Reply, Request


class Client:
    """A client of one cluster: several addresses, one connection at a time, many requests in it.

    `timeout` and `connect_timeout` are seconds per attempt. `pipeline_max` bounds the requests in
    flight, `pending_max` those that wait for room, `lost_max` those that may stay unanswered before
    the connection is replaced. Without `rng` the waits between failed connection attempts follow
    client_rules.Route exactly; with one they are jittered. `access` is what the nodes ask for:
    Access(password=..., tls=True, ca="ca.pem"). `defaults` are fields that go with every request,
    such as level="quorum".
    """

    def __init__(
        self,
        addresses: AddressLike | Sequence[AddressLike],
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        connect_timeout: float = DEFAULT_CONNECT_TIMEOUT_S,
        pipeline_max: int = DEFAULT_PIPELINE_REQUESTS,
        pending_max: int = PENDING_REQUESTS_MAX,
        lost_max: int = LOST_REQUESTS_MAX,
        rng: Rng | None = None,
        access: Access = OPEN,
        **defaults: Any,
    ) -> None:
        self._limits = Limits(timeout, connect_timeout, pipeline_max, pending_max, lost_max)
        self._route = Route(parse_addresses(addresses), rng=rng)
        self._defaults = defaults
        self._access = access
        self._link: Link | None = None
        self._links: set[Link] = set()
        self._connecting: asyncio.Task[Link] | None = None
        self._closed = False

    # The verbs.

    async def get(self, key: str, **extras: Any) -> str | None:
        """Return the value, or None if the key does not exist; raise ClientError."""
        return value_of(await self.request("GET", key, **extras), key)

    async def set(self, key: str, value: str, **extras: Any) -> None:
        """Write the value; raise DefiniteError or UncertainError."""
        raise_error(await self.request("SET", key, value, **extras), "SET", key)

    async def delete(self, key: str, **extras: Any) -> bool:
        """Delete the key and say whether it existed; raise DefiniteError or UncertainError."""
        return deleted_of(await self.request("DELETE", key, **extras), key)

    async def ask(self, kind: str, key: str = "", **extras: Any) -> dict[str, Any]:
        """Return the `info` of an administrative request such as STATUS; raise ClientError."""
        return info_of(await self.request(kind, key, **extras), kind, key)

    async def ping(self) -> dict[str, Any]:
        """Return {"id", "ready"} of the node that answers."""
        return await self.ask("PING")

    async def status(self) -> dict[str, Any]:
        """Return what the node says of itself."""
        return await self.ask("STATUS")

    async def map(self) -> dict[str, Any]:
        """Return the node's cluster map, as plain values."""
        return await self.ask("MAP")

    async def request(self, kind: str, key: str = "", value: str = "", **extras: Any) -> Reply:
        """Send one request and return its reply, even one with the status ERROR.

        Raises DefiniteError or UncertainError if no reply came.
        """
        ask = make_request(kind, key, value, self._defaults | extras)
        batch = await self._deliver((ask,), repeat=is_read_only(kind))
        if isinstance(batch, LinkError):
            raise failure(kind, key, batch.why, sent=batch.sent, code=batch.code) from None
        return batch[0]

    async def pipeline(self, requests: Iterable[RequestLike]) -> list[Reply | ClientError]:
        """Send many requests, as (type, key, value) or Request, in few writes.

        Returns one entry per request, in order: its reply (even with the status ERROR) or the
        ClientError that tells what is known of it. Nothing that was sent is repeated.
        """
        asks = make_requests(requests, self._defaults)
        size = self._limits.pipeline_max
        chunks = [asks[at : at + size] for at in range(0, len(asks), size)]
        answers = await asyncio.gather(*(self._pipeline_chunk(chunk) for chunk in chunks))
        return [one for answer in answers for one in answer]

    async def _pipeline_chunk(self, asks: Sequence[Request]) -> list[Reply | ClientError]:
        arrived: list[Reply] = []
        try:
            result = await self._deliver(asks, repeat=False, arrived=arrived)
        except DefiniteError as error:
            return [error] * len(asks)
        if not isinstance(result, LinkError):
            return list(result)
        answers: list[Reply | ClientError] = list(arrived)
        for ask in asks[len(arrived) :]:
            key, why = ask.key or "", result.why
            answers.append(failure(ask.type, key, why, sent=result.sent, code=result.code))
        return answers

    # Delivery.

    async def _deliver(
        self, asks: Sequence[Request], *, repeat: bool, arrived: list[Reply] | None = None
    ) -> list[Reply] | LinkError:
        """Send `asks` until they are answered, or may not be repeated, or no address is left.

        Raises DefiniteError if there is no connection. `arrived` takes the replies that came
        before a failure.
        """
        data = encode(asks)
        loop = asyncio.get_running_loop()
        several = len(self._route.addresses) > 1
        # One more than there are addresses: the first may be a connection that died unnoticed.
        tries_left = len(self._route.addresses) + 1
        while True:
            link = self._link
            if link is None or not link.usable:
                link = await self._connected()
            done: asyncio.Future[None] = loop.create_future()
            batch = Batch(data, len(asks), done, loop.time(), self._limits.timeout_s)
            try:
                link.submit(batch)
                await done
            except asyncio.CancelledError:
                link.forget(batch)
                raise
            except LinkError as error:
                tries_left -= 1
                if worth_repeating(error, repeat=repeat, several=several) and tries_left:
                    continue
                if arrived is not None:
                    arrived.extend(batch.replies)
                return error
            tries_left -= 1
            if not (several and tries_left and is_turned_away(batch.replies)):
                return batch.replies
            if self._link is link:
                self._link = None
                self._route.failed(link.address, loop.time(), "is being stopped")
            link.retire(f"{link.address} is being stopped")

    async def _connected(self) -> Link:
        """Return a usable connection; callers that come meanwhile wait for the same attempt."""
        if self._closed:
            raise DefiniteError("the client is closed")
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(_look_at)
        task = self._connecting
        try:
            # Shielded: one caller that gives up must not cancel the attempt of the others.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._closed:
                raise DefiniteError("the client was closed") from None
            raise

    async def _connect(self) -> Link:
        """Try every address that is not resting, once; raise DefiniteError if none accepts.

        One that does not take the password ends the attempt: the others have the same one.
        """
        loop = asyncio.get_running_loop()
        route, limit_s = self._route, self._limits.connect_timeout_s
        wait_s = route.wait_s(loop.time())
        if wait_s:
            await asyncio.sleep(wait_s)
        for address in route.due(loop.time()):

            def link_of(address: Any = address) -> Link:
                return Link(address, self._limits, loop, self._changed)

            try:
                async with asyncio.timeout(limit_s):
                    link = await connect(link_of, address.host, address.port, self._access)
            except OSError as error:
                route.failed(address, loop.time(), connect_reason(error, limit_s))
                continue
            self._links.add(link)
            self._link = link
            return link
        raise route.nobody()

    def _changed(self, link: Link) -> None:
        """Replace a connection that ended or does not answer; called by the link itself."""
        now = asyncio.get_running_loop().time()
        route, address = self._route, link.address
        current = self._link is link
        if link.alive and not link.lost:
            if current and link.answered:
                route.worked(address)
            return
        if not link.alive:
            self._links.discard(link)
        elif not current:
            link.retire(f"{address} stopped answering")
            return
        elif len(route.addresses) == 1 and link.lost < self._limits.lost_limit:
            return
        if not current or self._closed:
            return
        self._link = None
        if link.answered:
            route.move_on(address)
        else:
            route.failed(address, now, link.reason or "accepts connections and does not answer")
        if link.alive:
            link.retire(f"{address} stopped answering")

    # The end.

    async def close(self) -> None:
        """End all connections; requests in flight fail."""
        self._closed = True
        self._link = None
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        links = list(self._links)
        for link in links:
            link.close("the client was closed")
        if links:
            await asyncio.wait([link.closed for link in links])
        self._links.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _look_at(task: asyncio.Task[Link]) -> None:
    """Take note of a failure for which nobody waits any more, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()
