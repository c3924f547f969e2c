"""The CLI's end of the control socket: ask the daemon a verb, wait for its answer.

It is blocking and light on purpose: a command line that asks for the status should not load an
event loop. The daemon's end is `control_server`.

One connection carries many requests, one after another. An answer is any number of
{"progress": {...}} lines, then one {"ok": true, "result": ...} or {"ok": false, "error": ...}.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from kvlab import errors
from kvlab.errors import InfraError, KvlabError, NotRunningError, SpecError
from kvlab.lab.state import Running, connect_control

Progress = Callable[[dict[str, Any]], None]

CONNECT_TIMEOUT_S = 5.0
# After `down` has been answered, how long the daemon's process may take to end.
EXIT_TIMEOUT_S = 10.0
READ_BYTES = 1 << 16


class Fault(msgspec.Struct):
    """An exception of kvlab.errors on its way through a socket or a pipe."""

    kind: str
    message: str
    hint: str = ""
    problems: list[str] = []


class Line(msgspec.Struct, omit_defaults=True):
    """One line of an answer."""

    progress: dict[str, Any] | None = None
    ok: bool | None = None
    result: Any = None
    error: Fault | None = None


line_decoder = msgspec.json.Decoder(Line)


def to_fault(error: KvlabError) -> Fault:
    """Turn an exception into what is sent."""
    problems = list(error.problems) if isinstance(error, SpecError) else []
    return Fault(type(error).__name__, error.message, error.hint, problems)


def from_fault(fault: Fault) -> KvlabError:
    """Turn what was sent into the exception of the same class; an unknown one is an InfraError."""
    kind = getattr(errors, fault.kind, None)
    if kind is SpecError:
        return SpecError(fault.message, problems=tuple(fault.problems), hint=fault.hint)
    if isinstance(kind, type) and issubclass(kind, KvlabError):
        return kind(fault.message, hint=fault.hint)
    return InfraError(fault.message, hint=fault.hint)


class ControlClient:
    """A blocking connection to the daemon of one cluster."""

    def __init__(self, control: Path | Running) -> None:
        """Connect; raises NotRunningError when no daemon answers."""
        path = Path(control.control) if isinstance(control, Running) else control
        self._sock = connect_control(path, CONNECT_TIMEOUT_S)
        self._sock.settimeout(None)
        self._pending = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; what was asked for goes on."""
        self._sock.close()

    def call(
        self,
        verb: str,
        args: Mapping[str, Any] | None = None,
        on_progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Do a verb and return its result.

        Raises the exception that the daemon answers, and NotRunningError when the daemon goes away
        before it has answered. After `down` the daemon's process has ended, too.
        """
        daemon = self._daemon_handle() if verb == "down" else -1
        try:
            result = self._exchange(verb, args or {}, on_progress)
            if daemon >= 0 and not select.select([daemon], [], [], EXIT_TIMEOUT_S)[0]:
                raise InfraError(
                    f"all nodes are stopped, but the daemon still runs after {EXIT_TIMEOUT_S:g} s",
                    hint="kvlab reap ends it",
                )
        finally:
            if daemon >= 0:
                os.close(daemon)
        return result

    def _exchange(
        self, verb: str, args: Mapping[str, Any], on_progress: Progress | None
    ) -> dict[str, Any]:
        try:
            self._sock.sendall(msgspec.json.encode({"verb": verb, "args": args}) + b"\n")
            while True:
                line = line_decoder.decode(self._read_line())
                if line.progress is not None:
                    if on_progress is not None:
                        on_progress(line.progress)
                elif line.error is not None:
                    raise from_fault(line.error)
                else:
                    result: dict[str, Any] = line.result
                    return result
        except OSError as error:
            raise NotRunningError(
                f"the daemon went away during {verb}: {error.strerror or error}",
                hint="kvlab status shows what is left, kvlab up starts anew",
            ) from error
        except msgspec.DecodeError as error:
            raise InfraError(f"the daemon's answer is no JSON: {error}") from error

    def _read_line(self) -> bytes:
        parts = [self._pending]
        while b"\n" not in parts[-1]:
            chunk = self._sock.recv(READ_BYTES)
            if not chunk:
                raise ConnectionResetError(0, "it closed the connection")
            parts.append(chunk)
        line, _, self._pending = b"".join(parts).partition(b"\n")
        return line

    def _daemon_handle(self) -> int:
        """Return a pidfd of the process at the other end, which becomes readable when it ends."""
        size = struct.calcsize("3i")
        raw = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        try:
            return os.pidfd_open(struct.unpack("3i", raw)[0])
        except ProcessLookupError:
            return -1
