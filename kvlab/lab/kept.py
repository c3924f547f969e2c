"""What of a cluster outlasts `kvlab down`: its members and their addresses, in `cluster.json`.

It starts nothing, and the data itself is the nodes' own; whether a cluster goes on with it is decided
in `resume`.

Invariants:

1. `cluster.json` is replaced whole, and synced once a node served: after a power cut it is there,
   old or new.
2. It names a node before the node's first process begins, and until its last one has ended: no data
   of a member is ever without its name.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import msgspec

from kvlab.errors import InfraError
from kvlab.lab.state import PRIVATE_FILE_MODE, StateDir
from kvlab.live.disk import sync_parents

SCHEMA: Final = 1
FRESH: Final = "kvlab up --fresh"
FOLDERS_SYNCED: Final = 3
"""That of the cluster, that of all clusters, and the one of cluster.yaml, which has it."""
FILES_MAX: Final = 10_000
"""So many files of a folder are looked at for the time of its data."""


class KeptNode(msgspec.Struct, kw_only=True):
    """One member: the ports are the same at the next start, because other members remember them."""

    id: str
    host: str
    port: int
    shim_port: int = 0
    """Where other nodes reach it; 0: at `port`."""
    weight: float = 1.0
    rack: str | None = None
    index: int = 0
    """Its number in the laboratory, see `NodeStart`."""
    founder: bool = True
    added: bool = False
    """Whether it came by `kvlab add`; else it is one of the file."""
    leaving: bool = False


class Kept(msgspec.Struct, kw_only=True):
    """The contents of `cluster.json`."""

    schema: int = SCHEMA
    file: str = ""
    """The name of the file that describes the cluster, which lies beside the folder of all states."""
    engine: str
    ranges: int
    copies: int
    shims: bool
    founded: bool = False
    """Whether a node ever served; before that there is nothing to go on with."""
    nodes: list[KeptNode] = []
    removed: list[str] = []
    """Who was seen out by `kvlab remove`, and so does not come back because the file names it."""


def read_kept(directory: StateDir) -> Kept | None:
    """Return what is kept, or None where nothing is. Raises InfraError if it cannot be understood."""
    try:
        kept = msgspec.json.decode(directory.kept.read_bytes(), type=Kept)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise InfraError(
            f"cannot read {directory.kept}: {error}",
            hint=f"it names the members whose data is beside it; without it, only {FRESH} is left",
        ) from error
    if kept.schema != SCHEMA:
        raise InfraError(
            f"{directory.kept} is of another version of kvlab (schema {kept.schema}, not {SCHEMA})",
            hint=f"use that version, or begin anew without the data: {FRESH}",
        )
    return kept


def write_kept(directory: StateDir, kept: Kept) -> None:
    """Replace what is kept. Raises InfraError if the disk does not take it."""
    beside = directory.kept.with_suffix(".new")
    try:
        with beside.open("wb") as file:
            os.fchmod(file.fileno(), PRIVATE_FILE_MODE)
            file.write(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
            file.flush()
            if kept.founded:
                os.fsync(file.fileno())
        beside.replace(directory.kept)
        if kept.founded:
            sync_parents(directory.kept, FOLDERS_SYNCED)
    except OSError as error:
        raise InfraError(f"cannot write {directory.kept}: {error.strerror}") from error


def written_us(directory: StateDir) -> int:
    """Return when any node's data was last written, in microseconds since 1970; 0: there is none."""
    newest = 0
    for folder in _folders(directory):
        seen = 0
        for place, _, names in os.walk(folder):
            for name in names[: FILES_MAX - seen]:
                try:
                    found = os.lstat(os.path.join(place, name))
                except OSError:
                    continue
                if found.st_size:
                    newest = max(newest, found.st_mtime_ns // 1000)
            seen += len(names)
            if seen >= FILES_MAX:
                break
    return newest


def clear_data(directory: StateDir, node_id: str) -> None:
    """Remove what a node of this name kept. InfraError if that cannot be done."""
    _remove(directory.node_data(node_id))


def clear_all(directory: StateDir) -> None:
    """Remove all data, and who kept it. InfraError if that cannot be done."""
    for folder in _folders(directory):
        _remove(folder)
    # Last, so that data that could not be removed is not without its name.
    directory.kept.unlink(missing_ok=True)


def _folders(directory: StateDir) -> list[Path]:
    return sorted(directory.node("").glob("*/data"))


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InfraError(f"cannot empty {folder}: {error.strerror}") from error
