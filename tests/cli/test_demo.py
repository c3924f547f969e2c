from __future__ import annotations

import json
import subprocess
import sys

import pytest

from kvlab.lab.reap import find_processes

pytestmark = pytest.mark.live

KVLAB = [sys.executable, "-m", "kvlab"]


def test_the_demo_ends_valid_and_leaves_nothing(tmp_path):
    history = tmp_path / "history.jsonl"
    done = subprocess.run(
        [*KVLAB, "demo", "--keys", "300", "--seed", "7", "--json", "--history", history],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["verdict"] == "valid"
    assert verdict["reproduce"] == "kvlab demo --seed 7 --keys 300"
    assert [phase["name"] for phase in verdict["phases"]] == [
        "steady",
        "server2 dead",
        "split",
        "growing",
        "after",
    ]
    assert verdict["checks"]["lost"]["judged"] >= 300
    assert len(history.read_text().splitlines()) >= 2 * verdict["operations"] - 10
    assert not [left for left in find_processes() if "kvlab-demo-" in left.state]


def test_a_demo_that_is_interrupted_leaves_nothing(tmp_path):
    with subprocess.Popen(
        [*KVLAB, "demo", "--keys", "300"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        line = next(line for line in demo.stdout if "Loaded" in line)
        assert line
        demo.send_signal(2)
        demo.stdout.read()

    assert demo.returncode == 130
    assert not [left for left in find_processes() if "kvlab-demo-" in left.state]
