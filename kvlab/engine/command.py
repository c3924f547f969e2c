"""Any server as an engine: a program that is started by a command template of cluster.yaml.

It knows nothing of what the program is. What such a server cannot tell (whom it sees, what it still
has to move) counts as well; what it cannot do (take a node in, see one out) is refused with the reason.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvlab.engine.base import NodeStart, Program
from kvlab.engine.jsonline import ask
from kvlab.engine.kvlab import PAUSE_FIRST_S, PAUSE_GROWTH, PAUSE_MAX_S, PROBE_TIMEOUT_S
from kvlab.engine.probe import probe
from kvlab.errors import ClientError, UsageError
from kvlab.live.security import OPEN, Access
from kvlab.spec import EngineSpec
from kvlab.spec.template import fill

if TYPE_CHECKING:
    from kvlab.spec import ClusterSpec

# Where output goes to a file, Python keeps it back until there is much; a log should not lag.
ENV_ALWAYS = {"PYTHONUNBUFFERED": "1"}


class CommandEngine:
    """Starts servers by their command and asks them what they know."""

    name = "command"
    preload: tuple[str, ...] = ()
    is_ours = False
    access: Access = OPEN  # what its servers ask of others is their own business

    def __init__(self, settings: EngineSpec | None = None, folder: Path | None = None) -> None:
        self._settings = settings or EngineSpec()
        self._folder = folder or Path.cwd()
        self.protocol: str = self._settings.protocol

    def configured(self, spec: ClusterSpec, folder: Path) -> CommandEngine:
        """Return the engine with the command of this cluster; UsageError if it has none."""
        if not spec.engine.command:
            raise UsageError(
                "cluster.yaml has no command to run", hint="write engine: {command: ...} into it"
            )
        return CommandEngine(spec.engine, folder)

    def program(self, start: NodeStart) -> Program:
        """Fill in the template; raises UsageError when there is no such program."""
        settings = self._settings
        joins = not start.initial
        values = _values(start)
        words = [fill(word, values) for word in (settings.join if joins else settings.command)]
        env = ENV_ALWAYS | {name: fill(value, values) for name, value in settings.env}
        words[0] = self._found(words[0], env.get("PATH"))
        return Program(argv=tuple(words), env=env, cwd=str(self._folder))

    def _found(self, program: str, path: str | None) -> str:
        """Return where a program is: beside cluster.yaml if it has a slash, else on the PATH."""
        beside = self._folder / program
        if os.sep not in program:
            found = shutil.which(program, path=path)
            if found is not None:
                return found
            hint = "install it, or write where it is"
            if beside.is_file():
                hint = f"write ./{program} for the file beside cluster.yaml"
            raise UsageError(f"there is no program {program} on the PATH", hint=hint)
        if not beside.is_file():
            hint = "paths in engine.command begin at the folder of cluster.yaml"
            raise UsageError(f"there is no program {beside}", hint=hint)
        if not os.access(beside, os.X_OK):
            hint = f"chmod +x {program}, or name what runs it: python3 {program}"
            raise UsageError(f"{beside} cannot be executed", hint=hint)
        return str(beside)

    async def wait_ready(self, host: str, port: int) -> None:
        """Probe until the server answers."""
        pause_s = PAUSE_FIRST_S
        while True:
            try:
                await self._probe(host, port, PROBE_TIMEOUT_S)
            except ClientError:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * PAUSE_GROWTH, PAUSE_MAX_S)
            else:
                return

    async def status(self, host: str, port: int, timeout_s: float) -> dict[str, Any]:
        """Ask STATUS where servers know it; else they are what the probe says."""
        if "STATUS" in self._settings.knows:
            return await ask(host, port, {"type": "STATUS", "key": ""}, timeout_s)
        await self._probe(host, port, timeout_s)
        return {"ready": True}

    async def _probe(self, host: str, port: int, timeout_s: float) -> None:
        await probe(
            host,
            port,
            protocol=self.protocol,
            question=self._settings.probe,
            timeout_s=timeout_s,
        )

    def sees(self, status: dict[str, Any], others: frozenset[str]) -> bool:
        """Tell whether the node says of none of the `others` that it is not up."""
        peers = status.get("peers") or {}
        return all(peers.get(node, "up") == "up" for node in others)

    def is_replaced(self, last_words: str) -> bool:  # noqa: ARG002
        """Return False: what servers by others say when they end is not known."""
        return False

    def why_busy(self, node: str, status: dict[str, Any]) -> str:
        """Read `moving`, where the server tells it."""
        moving = status.get("moving")
        return f"{node} is still moving {moving}" if moving else ""

    def why_no_join(self) -> str:
        """Ask for a template of joining."""
        if self._settings.join:
            return ""
        return "engine.join in cluster.yaml does not say how a server joins a running cluster"

    def why_no_leave(self) -> str:
        """Ask for LEAVE."""
        if "LEAVE" in self._settings.knows:
            return ""
        return "these servers do not know LEAVE (engine.knows in cluster.yaml)"

    async def leave(self, host: str, port: int, node: str) -> None:
        """Send LEAVE for `node`; its answer means that the node may end."""
        await ask(host, port, {"type": "LEAVE", "key": node})

    async def members(self, host: str, port: int) -> frozenset[str]:  # noqa: ARG002
        """Return nobody: LEAVE was answered, and there is no map to read more from."""
        return frozenset()

    async def settled(self, host: str, port: int, node: str) -> bool:
        """Tell whether the node answers and says of nothing that it is on its way."""
        return not self.why_busy(node, await self.status(host, port, PROBE_TIMEOUT_S))

    async def held(self, host: str, port: int) -> dict[str, int]:  # noqa: ARG002
        """Return {}: nobody can tell."""
        return {}

    async def is_empty(self, host: str, port: int) -> bool:  # noqa: ARG002
        """Return False: nobody can tell."""
        return False


def _values(start: NodeStart) -> dict[str, str]:
    others = [one for one in start.members if one.id != start.id]
    advertise_host, _, advertise_port = start.advertise.rpartition(":")
    return {
        "id": start.id,
        "index": str(start.index),
        "host": start.host,
        "port": str(start.port),
        "advertise": start.advertise,
        "advertise_host": advertise_host,
        "advertise_port": advertise_port,
        "peers": ",".join(one.advertise for one in others),
        "peers_named": ",".join(f"{one.id}={one.advertise}" for one in others),
        "members": ",".join(f"{one.id}={one.advertise}" for one in start.members),
        "data": start.data_dir,
        "cluster": start.cluster,
        "python": sys.executable,
    }
