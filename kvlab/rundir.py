"""The files of one run: the only module that names or opens them. It makes and judges nothing.

spec.yaml       the scenario, resolved: enough to run it again
history.jsonl   what clients did (history.py)
faults.jsonl    each fault: planned and actual time, and whether it had an effect
verdict.json    the verdict, each check and guard, the seed, how to repeat it
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kvlab.errors import InfraError, UsageError

SPEC = "spec.yaml"
HISTORY = "history.jsonl"
FAULTS = "faults.jsonl"
VERDICT = "verdict.json"


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
