"""Campaign `orphans`: kill -9 of whoever holds a cluster, at any moment; nothing may outlive it.

Processes are found by a mark in their environment, which every child inherits, whatever group, session
or parent it has. Moments are drawn from the seed, over as long as the same thing takes undisturbed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvendure import marks
from kvendure.campaign import Campaign, at_once, spread
from kvendure.starts import COMMAND_S, KVLAB, NODES, Failed, kvlab

SCENARIO = """version: 1
name: orphans
nodes: 3
sync: os
time: 2s
workload: {operations: 200, clients: 3, keys: 10}
faults:
  - {at: 300ms, for: 500ms, kind: pause, targets: server2}
  - {at: 500ms, for: 500ms, kind: kill, targets: server1}
  - {at: 1s, for: 800ms, kind: slow, targets: server3, cpu: 0.3}
"""
TEST = """def test_a_cluster_for_a_while(kvlab_cluster):
    with kvlab_cluster.client() as client:
        kvlab_cluster.pause("server2")
        for number in range(400):
            client.set(f"k{number}", "v")
"""
MEANWHILE = (  # what the supervisor is busy with when it is killed
    ("status",),
    ("kill", "server2"),
    ("pause", "server2"),
    ("partition", "server1 | server2,server3"),
    ("add", "--no-wait"),
    ("restart", "all", "--rolling"),
    ("remove", "server3", "--no-wait"),
    ("down",),
)
DAEMON = "kvlab-daemon"
POLL_S = 0.005


@dataclass
class Trial:
    """One victim in a folder of its own."""

    folder: Path
    mark: str
    chance: random.Random
    lasts_s: dict[str, float]  # kind -> as long as it takes undisturbed
    bound_s: float
    seen: list[str]  # what had come about, for the figures
    ended_s: list[float]

    def begin(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a process in the folder, with its output in a file there."""
        with self.folder.joinpath("output").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=marks.environment(self.mark),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_moment(self, seconds: float) -> float:
        """Wait until a moment drawn from so many seconds."""
        moment = self.chance.random() * seconds
        time.sleep(moment)
        return moment

    def nothing_left(self, what: str) -> None:
        """Wait until nothing carries the mark. Raises Failed at the bound."""
        took, left = marks.wait_for_none(self.mark, self.bound_s)
        if left:
            raise Failed(f"{what}: {self.bound_s:g} s later there are {left}")
        self.ended_s.append(took)


def _kill(victim: subprocess.Popen[bytes]) -> bool:
    """SIGKILL; False if it had ended by then."""
    lived = victim.poll() is None
    victim.kill()
    victim.wait()
    return lived


# -- the kinds of victims ---------------------------------------------------------------------------


def _run(trial: Trial) -> None:
    trial.folder.joinpath("scenario.yaml").write_text(SCENARIO)
    victim = trial.begin(*KVLAB, "run", "scenario.yaml", "--out", "out")
    moment = trial.wait_moment(trial.lasts_s["run"])
    trial.seen.append("run" if _kill(victim) else "run had ended")
    trial.nothing_left(f"kvlab run killed after {moment:.3f} s")


def _pytest(trial: Trial) -> None:
    trial.folder.joinpath("test_it.py").write_text(TEST)
    options = ("-q", "-p", "no:cacheprovider", "--basetemp=tmp", "--rootdir=.", "test_it.py")
    victim = trial.begin(sys.executable, "-m", "pytest", *options)
    moment = trial.wait_moment(trial.lasts_s["pytest"])
    trial.seen.append("pytest" if _kill(victim) else "pytest had ended")
    trial.nothing_left(f"pytest killed after {moment:.3f} s")


def _up(trial: Trial) -> None:
    """A killed `up` leaves nothing, or the whole cluster that it had brought up already."""
    victim = trial.begin(*KVLAB, "up")
    moment = trial.wait_moment(trial.lasts_s["up"])
    _kill(victim)
    deadline = time.monotonic() + trial.bound_s
    state = trial.folder / ".kvlab" / "orphans" / "supervisor.json"
    while marks.marked(trial.mark) and time.monotonic() < deadline:
        if state.exists():
            with contextlib.suppress(Failed):
                status = json.loads(kvlab(trial.mark, trial.folder, "status", "--json"))
                if all(one["state"] == "running" for one in status["nodes"]):
                    trial.seen.append("up, which was done")
                    kvlab(trial.mark, trial.folder, "down")
                    break
        time.sleep(POLL_S)
    else:
        trial.seen.append("up")
    trial.nothing_left(f"kvlab up killed after {moment:.3f} s")
    _again(trial)


def _starting(trial: Trial) -> None:
    """The supervisor dies while it starts; `up` must then end, too."""
    victim = trial.begin(*KVLAB, "up")
    pid = 0
    while not pid and victim.poll() is None:
        pid = _daemon(trial.mark)
        time.sleep(POLL_S)
    moment = trial.wait_moment(trial.lasts_s["up"])
    _kill_pid(pid)
    trial.seen.append("supervisor that starts")
    try:
        victim.wait(trial.bound_s)
    except subprocess.TimeoutExpired:
        raise Failed(f"its supervisor is dead, and kvlab up goes on ({moment:.3f} s)") from None
    trial.nothing_left(f"the supervisor killed {moment:.3f} s after its start")
    _again(trial)


def _supervisor(trial: Trial) -> None:
    """The supervisor dies while it does something."""
    kvlab(trial.mark, trial.folder, "up")
    pid = _daemon(trial.mark)
    command = trial.chance.choice(MEANWHILE)
    verb = trial.begin(*KVLAB, *command)
    moment = trial.wait_moment(trial.lasts_s["verb"])
    _kill_pid(pid)
    trial.seen.append("supervisor")
    what = f"the supervisor killed {moment:.3f} s after kvlab {' '.join(command)}"
    try:
        verb.wait(trial.bound_s)
    except subprocess.TimeoutExpired:
        raise Failed(f"{what}, which goes on") from None
    trial.nothing_left(what)
    _again(trial)


def _again(trial: Trial) -> None:
    """What died must not be in the way of the next one."""
    kvlab(trial.mark, trial.folder, "up", "--fresh")
    kvlab(trial.mark, trial.folder, "down")
    _, left = marks.wait_for_none(trial.mark, trial.bound_s)
    if left:
        raise Failed(f"after the next up and down there are {left}")


def _daemon(mark: str) -> int:
    """Return the supervisor's pid, 0 if there is none (yet)."""
    return next((pid for pid, name in marks.marked(mark).items() if name.startswith(DAEMON)), 0)


def _kill_pid(pid: int) -> None:
    if (
        pid
    ):  # it carries our mark; when it has ended since, it was just now, and pids are not reused
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


VICTIMS: dict[str, Callable[[Trial], None]] = {
    "run": _run,
    "up": _up,
    "starting": _starting,
    "supervisor": _supervisor,
    "pytest": _pytest,
}

# -- the campaign -----------------------------------------------------------------------------------


def orphans(options: argparse.Namespace) -> int:
    """Run the campaign; return the exit status."""
    holds = f"nothing outlives who held it by {options.bound:g} s"
    told = Campaign("orphans", holds, options.count, options.json)
    seen: list[str] = []
    ended_s: list[float] = []
    kinds = options.victims or list(VICTIMS)
    with tempfile.TemporaryDirectory(prefix="kvlab-orphans-") as place:
        try:
            lasts_s = _undisturbed(Path(place) / "undisturbed", kinds)

            def trial(number: int) -> str:
                chance = random.Random(f"orphans/{options.seed}/{number}")
                one = Trial(
                    _folder(Path(place) / f"{number}"),
                    *(marks.new_mark(), chance, lasts_s, options.bound, seen, ended_s),
                )
                kind = kinds[number % len(kinds)]
                return _try(one, VICTIMS[kind], f"{kind} {number}")

            at_once(options.jobs, range(1, options.count + 1), trial, told)
        except KeyboardInterrupt:
            told.interrupted = True
    told.facts = {
        "seed": options.seed,
        "killed": {name: seen.count(name) for name in sorted(set(seen))},
        "until nothing was left (s)": spread(ended_s),
    }
    return told.close()


def _folder(folder: Path) -> Path:
    folder.mkdir()
    folder.joinpath("cluster.yaml").write_text(f"name: orphans\n{NODES}")
    return folder


def _try(trial: Trial, victim: Callable[[Trial], None], name: str) -> str:
    try:
        victim(trial)
    except (Failed, subprocess.TimeoutExpired) as failed:
        return f"{name}: {failed}"
    finally:
        marks.end_all(trial.mark)
        shutil.rmtree(trial.folder, ignore_errors=True)
    return ""


def _undisturbed(folder: Path, kinds: list[str]) -> dict[str, float]:
    """Return how long each kind takes when nobody is killed."""
    _folder(folder)
    mark, lasts_s = marks.new_mark(), {}

    def timed(name: str, *command: str) -> None:
        began = time.monotonic()
        log = folder.joinpath("output").open("wb")
        with log:
            subprocess.run(
                command,
                cwd=folder,
                env=marks.environment(mark),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=COMMAND_S,
                check=True,
            )
        lasts_s[name] = time.monotonic() - began

    try:
        if "run" in kinds:
            folder.joinpath("scenario.yaml").write_text(SCENARIO)
            timed("run", *KVLAB, "run", "scenario.yaml", "--out", "out")
        if "pytest" in kinds:
            folder.joinpath("test_it.py").write_text(TEST)
            options = ("-q", "-p", "no:cacheprovider", "--basetemp=tmp", "--rootdir=.")
            timed("pytest", sys.executable, "-m", "pytest", *options, "test_it.py")
        timed("up", *KVLAB, "up")
        if "supervisor" in kinds:
            timed("verb", *KVLAB, "restart", "all", "--rolling")
        timed("down", *KVLAB, "down")
    finally:
        marks.end_all(mark)
    return lasts_s
