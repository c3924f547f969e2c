"""The supervisor's hand on the shim process: starts it, commands it, ends it.

It carries no byte of any node itself (`shim` does, in its own process). Invariants:

1. A call returns when its change is complete in the shim: after `cut` no byte passes.
2. The shim never outlives its parent: it watches its control socket and its parent process.
3. Calls may overlap; the shim does them in the order in which they were made.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

import kvlab
from kvlab import errors
from kvlab.errors import InfraError, KvlabError, NotRunningError
from kvlab.fault.link import LinkRule

ANSWER_S: Final = 10.0
"""How long the shim may take to answer; it needs milliseconds, so a longer silence is a fault."""
EXIT_S: Final = 2.0
"""How long the shim may take to end before it is killed."""
ANSWER_BYTES_MAX: Final = 64 << 20
"""The largest answer: a snapshot of 100 000 links fits."""
LOOPBACK: Final = "127.0.0.1"

Link = tuple[str, str]
Address = tuple[str, int]


class Shims:
    """One shim process for one cluster. Every method raises InfraError when it is not there."""

    def __init__(
        self,
        *,
        seed: int = 0,
        buffer_bytes: int | None = None,
        connections_max: int | None = None,
        stderr: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Set up without starting.

        `seed` drives jitter, one stream per link. `buffer_bytes` bounds what waits per direction
        of a connection. `stderr` is a descriptor for the shim's complaints, by default our own.
        `env` is added to our environment for the shim (marks that `kvlab reap` looks for).
        """
        self._options = {
            "--seed": seed,
            "--buffer-bytes": buffer_bytes,
            "--connections-max": connections_max,
        }
        self._stderr = stderr
        paths = [str(Path(kvlab.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        ours = {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        self._env = {**os.environ, **ours, **(env or {})}  # a checkout need not be installed
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)

    @property
    def pid(self) -> int | None:
        """The shim's process id; None before `start` and after it ended."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start the shim process and wait until it answers."""
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "kvlab.lab.shim"]
        command += ["--control-fd", str(theirs.fileno()), "--parent", str(os.getpid())]
        for name, value in self._options.items():
            if value is not None:
                command += [name, str(value)]
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stderr=self._stderr,
                env=self._env,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a Ctrl-C at the terminal is for the supervisor alone
            )
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=ANSWER_BYTES_MAX)
        self._reading = asyncio.create_task(self._read(reader))
        try:
            await self.snapshot()
        except InfraError as error:
            await self.close()
            raise InfraError("the shim process did not start", hint="kvlab doctor") from error

    async def add(
        self, node_id: str, upstream: Address, *, host: str = LOOPBACK, port: int = 0
    ) -> Address:
        """Listen for a node at `host`:`port` (0: any) and forward to `upstream`; give the address.

        A node that has its shim already only gets a new upstream: the address stays.
        """
        request = {"node": node_id, "upstream": upstream, "listen": (host, port)}
        address = await self._ask("add", **request)
        return address[0], address[1]

    async def remove(self, node_id: str) -> None:
        """Give the node's address back and reset its connections."""
        await self._ask("remove", node=node_id)

    async def set_pid(self, node_id: str, pid: int | None) -> None:
        """Say which process is the node: what it and its children dial is the node's own."""
        await self._ask("set_pid", node=node_id, pid=pid)

    async def cut(self, links: Sequence[Link], mode: str = "hold") -> None:
        """Stop every byte on these directed links; "hold" stalls connections, "reset" breaks them.

        When it returns, the cut is complete. Rules that the links have stay beside it.
        """
        await self._ask("cut", links=links, mode=mode)

    async def set_rule(self, links: Sequence[Link], rule: LinkRule) -> None:
        """Add a rule to these directed links; what it is silent about stays as it is."""
        await self._ask("set_rule", links=links, rule=rule.to_builtins())

    async def replace_rule(self, links: Sequence[Link], rule: LinkRule) -> None:
        """Put a rule in place of all that these directed links have, at once."""
        await self._ask("replace_rule", links=links, rule=rule.to_builtins())

    async def reset(self, links: Sequence[Link]) -> None:
        """Take every rule off these directed links; what they held goes out in order."""
        await self._ask("reset", links=links)

    async def heal(self) -> int:
        """Take every rule off every link; return how many links had one."""
        return int(await self._ask("heal"))

    async def snapshot(self) -> list[dict[str, Any]]:
        """Give one row per directed link that was used or ruled.

        from, to, connections (open now), opened, bytes and chunks (handed over), held_bytes (ever
        stopped by a cut), queued_bytes (waiting now), delayed (chunks), refused and connects_hung
        (connects), resets (connections broken by a rule), rule (text).
        """
        rows: list[dict[str, Any]] = await self._ask("snapshot")
        return rows

    async def close(self) -> None:
        """End the shim process. Its addresses are free afterwards. Safe to call twice."""
        process, self._process = self._process, None
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
            self._writer = None
        if self._reading is not None:
            await self._reading
            self._reading = None
        if process is not None:
            try:
                await asyncio.wait_for(process.wait(), EXIT_S)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def _ask(self, verb: str, **arguments: Any) -> Any:
        gone = self._reading is None or self._reading.done() or self.pid is None
        if self._writer is None or gone:
            raise NotRunningError("the shim process is not running", hint="kvlab down, kvlab up")
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        line = msgspec.json.encode({"id": number, "verb": verb, **arguments})
        try:
            self._writer.write(line + b"\n")
            await self._writer.drain()
            return await asyncio.wait_for(answer, ANSWER_S)
        except TimeoutError as error:
            raise InfraError(f"the shim did not answer {verb} within {ANSWER_S:g} s") from error
        except OSError as error:
            raise NotRunningError("the shim process is gone") from error
        finally:
            self._waiting.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Give every answer to whoever waits for it, until the shim is gone."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: over the limit, or no JSON
            while line := await reader.readline():
                message = msgspec.json.decode(line)
                waiting = self._waiting.get(message.get("id"))
                if waiting is not None and not waiting.done():
                    if message["ok"]:
                        waiting.set_result(message["result"])
                    else:
                        waiting.set_exception(_error(message["error"]))
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(NotRunningError("the shim process is gone"))


def _error(raw: dict[str, str]) -> KvlabError:
    """Raise here what was raised there."""
    kind = getattr(errors, raw["kind"], InfraError)
    error: KvlabError = kind(raw["message"], hint=raw["hint"])
    return error
