"""The files of one run: the only module that names or opens them. It makes and judges nothing.

spec.yaml       the scenario, resolved: enough to run it again
history.jsonl   what clients did (history.py)
links.jsonl     what each directed link had carried and held after each phase and fault
latency.hgrm    latencies of what succeeded, as HdrHistogram's percentile text
faults.jsonl    each fault: planned and actual time, and whether it had an effect
ring.json       which node held how many copies at the end, and what each change of the ring moved
verdict.json    the verdict, each check and guard, the seed, how to repeat it
junit.xml       the same for CI servers
report.html     all of it as one page, for a browser
nodes/          what each node logged, where nodes are processes: <id>.log
state/          of the cluster while it runs; it stays only where the run was ended from outside

A run that goes on writes history.jsonl and faults.jsonl as things happen: whoever ends it, what was
seen by then is there. In faults.jsonl, a later line with the same `id` stands for an earlier one.

A matrix has a folder with matrix.json, junit.xml, and one folder per run with all of these.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from kvlab.errors import InfraError, UsageError

SPEC = "spec.yaml"
HISTORY = "history.jsonl"
FAULTS = "faults.jsonl"
LINKS = "links.jsonl"
LATENCY = "latency.hgrm"
VERDICT = "verdict.json"
JUNIT = "junit.xml"
RING = "ring.json"
REPORT = "report.html"
MATRIX = "matrix.json"
LOGS = "nodes"  # a folder with one file per node
STATE = "state"
RUNS = "runs"
LATEST = "latest"
BLOCK_BYTES = 1 << 18


class RunDir:
    """A folder that holds one run. Raises InfraError where the disk does not let it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> RunDir:
        """Make the folder; raise UsageError if there is something else than a run in it."""
        known = {SPEC, HISTORY, FAULTS, LINKS, LATENCY, VERDICT, JUNIT, RING, REPORT, LOGS, STATE}
        try:
            if path.is_dir() and {one.name for one in path.iterdir()} - known:
                raise UsageError(
                    f"{path} is not empty", hint="name a folder that is new, or holds a run"
                )
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InfraError(f"cannot make {path}: {error.strerror}") from error
        return cls(path)

    def finish(self, faults: Iterable[Mapping[str, Any]], verdict: Mapping[str, Any]) -> None:
        """Write what a run that was recorded as it went came to; each fault has one line now."""
        self._write(FAULTS, _lines(faults))
        self._write(VERDICT, _document(verdict))

    def keep_latencies(self, text: str) -> None:
        """Write the latencies of a run."""
        self._write(LATENCY, text.encode())

    def write(
        self,
        *,
        spec: str,
        history: bytes,
        faults: Iterable[Mapping[str, Any]],
        verdict: Mapping[str, Any],
    ) -> None:
        """Write all files of a run; the verdict last, so that it vouches for the others."""
        self._write(SPEC, spec.encode())
        self._write(HISTORY, history)
        self._write(FAULTS, _lines(faults))
        self._write(VERDICT, _document(verdict))

    def write_junit(self, text: str) -> None:
        """Write what a run came to as JUnit XML."""
        self._write(JUNIT, text.encode())

    def write_ring(self, ring: Mapping[str, Any]) -> None:
        """Write what the nodes said of the ring at the end."""
        self._write(RING, _document(ring))

    def write_report(self, page: str) -> Path:
        """Write report.html; return where it is."""
        self._write(REPORT, page.encode())
        return self.path / REPORT

    def _write(self, name: str, data: bytes) -> None:
        _write(self.path / name, data)

    @property
    def state(self) -> Path:
        """The folder for the state of the cluster while the run goes on."""
        return self.path.absolute() / STATE

    def keep_logs(self) -> None:
        """Keep what the nodes logged; of the rest of the cluster's state nothing is needed any more."""
        try:
            shutil.rmtree(self.path / LOGS, ignore_errors=True)
            (self.path / LOGS).mkdir()
            for log in sorted(self.state.glob("nodes/*/log")):
                log.replace(self.path / LOGS / f"{log.parent.name}.log")
            shutil.rmtree(self.state)
        except OSError as error:
            raise InfraError(f"cannot keep the logs in {self.path}: {error.strerror}") from error

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
        lines: dict[Any, dict[str, Any]] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                told = json.loads(line)
            except ValueError as error:
                raise UsageError(f"{self.path / FAULTS}, line {number}: {error}") from error
            if not isinstance(told, dict) or not isinstance(told.get("until_us"), int):
                raise UsageError(f"{self.path / FAULTS}, line {number}: a fault needs until_us")
            lines[told.get("id", f"line {number}")] = told
        return list(lines.values())

    def verdict(self) -> dict[str, Any]:
        """Return verdict.json, empty if the run has none that can be read."""
        return self._read_document(VERDICT)

    def ring(self) -> dict[str, Any]:
        """Return ring.json, empty if the run has none that can be read."""
        return self._read_document(RING)

    def _read_document(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self.read(name) or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def logs(self) -> dict[str, Path]:
        """Return the log of each node, by its id."""
        return {path.stem: path for path in sorted((self.path / LOGS).glob("*.log"))}


class MatrixDir:
    """A folder that holds the runs of one matrix. Raises InfraError where the disk does not let it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> MatrixDir:
        """Make the folder; raise UsageError if there is something in it."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            if next(path.iterdir(), None) is not None:
                raise UsageError(f"{path} is not empty", hint="name a folder that is new")
        except OSError as error:
            raise InfraError(f"cannot make {path}: {error.strerror}") from error
        return cls(path)

    def run(self, name: str) -> Path:
        """Return the folder of one run."""
        return self.path / name

    def begin(self, name: str, spec: str) -> Path:
        """Make the folder of a run, and return the file in it that says what is to be run."""
        folder = RunDir.create(self.run(name))
        _write(folder.path / SPEC, spec.encode())
        return folder.path / SPEC

    def finish(self, document: Mapping[str, Any], junit: str) -> None:
        """Write what the matrix came to."""
        _write(self.path / JUNIT, junit.encode())
        _write(self.path / MATRIX, _document(document))


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise InfraError(f"cannot write {path}: {error.strerror}") from error


def _lines(faults: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(line)}\n" for line in faults).encode()


def _document(verdict: Mapping[str, Any]) -> bytes:
    return json.dumps(verdict, indent=2).encode() + b"\n"


class Journal:
    """Writes history, faults and links of a run while it goes on. Use it in `with`."""

    def __init__(self, run: RunDir, spec: str) -> None:
        self._path = run.path
        try:
            for name in (VERDICT, JUNIT, RING, REPORT):
                (run.path / name).unlink(missing_ok=True)
            (run.path / SPEC).write_text(spec)
            self._history = (run.path / HISTORY).open("wb", buffering=0)
            self._faults = (run.path / FAULTS).open("wb", buffering=0)
            self._links = (run.path / LINKS).open("wb", buffering=0)
        except OSError as error:
            raise InfraError(f"cannot write in {run.path}: {error.strerror}") from error

    def history(self, block: bytes) -> None:
        """Append lines to the history."""
        self._append(self._history, block)

    def fault(self, line: Mapping[str, Any]) -> None:
        """Append what is known of a fault now."""
        self._append(self._faults, json.dumps(line).encode() + b"\n")

    def links(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Append what links have counted by now."""
        self._append(self._links, _lines(lines))

    def _append(self, file: Any, data: bytes) -> None:
        try:
            file.write(data)
        except OSError as error:
            raise InfraError(f"cannot write in {self._path}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._history.close()
        self._faults.close()
        self._links.close()


def new_run(name: str, stamp: str, root: Path = Path(RUNS)) -> RunDir:
    """Make the folder of a new run, `runs/<name>/<stamp>`, and let `latest` lead to it."""
    folder, number = root / name, 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            path = folder / (stamp if number == 1 else f"{stamp}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
            else:
                break
        beside = folder / f".{LATEST}.{os.getpid()}"
        beside.symlink_to(path.name)
        beside.replace(folder / LATEST)
    except OSError as error:
        raise InfraError(f"cannot make {folder}: {error.strerror}") from error
    return RunDir(path)


def find_run(given: str, root: Path = Path(RUNS)) -> RunDir:
    """Return the run that a folder holds, or the latest one of a name. Raises UsageError."""
    for path in (Path(given), root / given / LATEST, Path(given) / LATEST):
        if (path / HISTORY).is_file():
            return RunDir(path)
    names = sorted(one.name for one in root.glob("*") if (one / LATEST).exists())
    hint = "name the folder of a run" + (f", or one of: {', '.join(names)}" if names else "")
    raise UsageError(f"{given} is not the folder of a run, and no run has this name", hint=hint)


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
