"""The files of one run: the only module that names or opens them. It makes and judges nothing.

spec.yaml       the scenario, resolved: enough to run it again
history.jsonl   what clients did (history.py)
faults.jsonl    each fault: planned and actual time, and whether it had an effect
verdict.json    the verdict, each check and guard, the seed, how to repeat it
nodes/          what each node logged, where nodes are processes: <id>.log
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kvlab.errors import InfraError, UsageError

SPEC = "spec.yaml"
HISTORY = "history.jsonl"
FAULTS = "faults.jsonl"
VERDICT = "verdict.json"
LOGS = "nodes"  # a folder with one file per node
BLOCK_BYTES = 1 << 18


class RunDir:
    """A folder that holds one run. Raises InfraError where the disk does not let it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> RunDir:
        """Make the folder; raise UsageError if there is something else than a run in it."""
        known = {SPEC, HISTORY, FAULTS, VERDICT}
        try:
            if path.is_dir() and {one.name for one in path.iterdir()} - known:
                raise UsageError(
                    f"{path} is not empty", hint="name a folder that is new, or holds a run"
                )
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InfraError(f"cannot make {path}: {error.strerror}") from error
        return cls(path)

    def write(
        self,
        *,
        spec: str,
        history: bytes,
        faults: Iterable[Mapping[str, Any]],
        verdict: Mapping[str, Any],
    ) -> None:
        """Write all files of a run; the verdict last, so that it vouches for the others."""
        lines = "".join(f"{json.dumps(line)}\n" for line in faults)
        for name, data in (
            (SPEC, spec.encode()),
            (HISTORY, history),
            (FAULTS, lines.encode()),
            (VERDICT, json.dumps(verdict, indent=2).encode() + b"\n"),
        ):
            try:
                (self.path / name).write_bytes(data)
            except OSError as error:
                raise InfraError(f"cannot write {self.path / name}: {error.strerror}") from error

    def read(self, name: str) -> str | None:
        """Return the text of a file, or None if the run has none."""
        path = self.path / name
        try:
            return path.read_text()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InfraError(f"cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is not text: {error.reason}") from error

    def faults(self) -> list[dict[str, Any]] | None:
        """Return the lines of faults.jsonl, or None if the run has none."""
        text = self.read(FAULTS)
        if text is None:
            return None
        lines = []
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                told = json.loads(line)
            except ValueError as error:
                raise UsageError(f"{self.path / FAULTS}, line {number}: {error}") from error
            if not isinstance(told, dict) or not isinstance(told.get("until_us"), int):
                raise UsageError(f"{self.path / FAULTS}, line {number}: a fault needs until_us")
            lines.append(told)
        return lines

    def verdict(self) -> dict[str, Any]:
        """Return verdict.json, empty if the run has none that can be read."""
        try:
            found = json.loads(self.read(VERDICT) or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def logs(self) -> dict[str, Path]:
        """Return the log of each node, by its id."""
        return {path.stem: path for path in sorted((self.path / LOGS).glob("*.log"))}


def history_path(path: Path) -> Path:
    """Return the history of a run directory, or the file itself. Raises UsageError."""
    found = path / HISTORY if path.is_dir() else path
    if not found.is_file():
        what = f"{path} holds no {HISTORY}" if path.is_dir() else f"there is no {path}"
        raise UsageError(what, hint="name a run directory or a history file")
    return found


def blocks_of(path: Path) -> Iterator[bytes]:
    """Read a file a block at a time."""
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block
    except OSError as error:
        raise InfraError(f"cannot read {path}: {error.strerror}") from error


def lines_of(path: Path) -> Iterator[str]:
    """Read a text file line by line, whatever its bytes are."""
    try:
        with path.open(errors="replace") as file:
            yield from file
    except OSError as error:
        raise InfraError(f"cannot read {path}: {error.strerror}") from error
