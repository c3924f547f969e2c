"""Campaign `starts`: clusters come up, serve and go, several at once, and leave nothing behind.

Each trial is what a user types, in a folder of its own: up, a SET and a GET, down.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kvendure import marks
from kvendure.campaign import Campaign, at_once, spread
from kvlab.errors import ClientError
from kvlab.live.blocking import BlockingClient

KVLAB = (sys.executable, "-P", "-m", "kvlab")
COMMAND_S = 120.0
LEFT_S = 5.0  # from the return of `down` to the last process: those that only have to end
NODES = "nodes:\n" + "".join(
    f"  - {{id: server{number}, addr: 'localhost:0'}}\n" for number in (1, 2, 3)
)


class Failed(Exception):  # noqa: N818 - it is the outcome of a trial
    """Why a trial failed."""


def kvlab(mark: str, folder: Path, *arguments: str) -> str:
    """Run the command line in a folder; return what it printed. Raises Failed."""
    try:
        done = subprocess.run(
            [*KVLAB, *arguments],
            cwd=folder,
            env=marks.environment(mark),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise Failed(f"kvlab {arguments[0]} took longer than {COMMAND_S:g} s") from late
    if done.returncode:
        said = " ".join(done.stderr.split())[-600:]
        raise Failed(f"kvlab {arguments[0]}: exit status {done.returncode}: {said}")
    return done.stdout


def starts(options: argparse.Namespace) -> int:
    """Run the campaign; return the exit status."""
    told = Campaign(
        "starts", "a cluster comes up, serves, and leaves nothing", options.count, options.json
    )
    took: dict[str, list[float]] = {"up": [], "down": []}
    with tempfile.TemporaryDirectory(prefix="kvlab-starts-") as place:

        def trial(number: int) -> str:
            return _trial(Path(place) / f"{number}", number, took)

        try:
            at_once(options.jobs, range(1, options.count + 1), trial, told)
        except KeyboardInterrupt:
            told.interrupted = True
    told.facts = {"at once": options.jobs} | {
        f"{name} (s)": spread(values) for name, values in took.items()
    }
    return told.close()


def _trial(folder: Path, number: int, took: dict[str, list[float]]) -> str:
    mark = marks.new_mark()
    folder.mkdir()
    folder.joinpath("cluster.yaml").write_text(f"name: start{number}\n{NODES}")
    try:
        _through(folder, mark, took)
    except (Failed, ClientError) as failed:
        return f"start {number}: {failed}"
    finally:
        marks.end_all(mark)
        shutil.rmtree(folder, ignore_errors=True)
    return ""


def _through(folder: Path, mark: str, took: dict[str, list[float]]) -> None:
    began = time.monotonic()
    status = json.loads(kvlab(mark, folder, "up", "--json"))
    up = time.monotonic()
    nodes = status["nodes"]
    if [one["state"] for one in nodes] != ["running"] * 3:
        raise Failed(f"up returned, and the nodes are {[one['state'] for one in nodes]}")
    with BlockingClient([f"{one['host']}:{one['port']}" for one in nodes]) as client:
        client.set("city", "Berlin", level="all")
        if (found := client.get("city")) != "Berlin":
            raise Failed(f"a value that was set reads as {found!r}")
    down = time.monotonic()
    kvlab(mark, folder, "down")
    took["up"].append(up - began)
    took["down"].append(time.monotonic() - down)
    _, left = marks.wait_for_none(mark, LEFT_S)
    if left:
        raise Failed(f"processes are left: {left}")
    _check_files(folder, nodes)


def _check_files(folder: Path, nodes: list[dict[str, Any]]) -> None:
    """No socket, lock or listener may remain."""
    for state in (folder / ".kvlab").iterdir():
        for name in ("lock", "control.sock", "supervisor.json"):
            if state.joinpath(name).exists():
                raise Failed(f"{name} is left")
    for one in nodes:
        host, _, port = one["advertise"].rpartition(":")
        for address in ((one["host"], one["port"]), (host, int(port))):
            # The port is free for other trials by now.
            if marks.listens(*address) and not marks.is_of_another_trial(address[1]):
                raise Failed(f"somebody listens at {address[0]}:{address[1]} after down")
