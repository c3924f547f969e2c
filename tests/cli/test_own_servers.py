"""The verbs on servers that are not ours: what is shown, and what is refused with a reason."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvlab.cli import main

pytestmark = pytest.mark.live

PLAIN = Path(__file__).parents[1] / "lab" / "plain_server.py"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("own") / "cluster.yaml"
    command = f"{sys.executable} -S {PLAIN} {{host}}:{{port}}"
    path.write_text(
        f"name: own\nnodes: 2\nengine: {{command: '{command}', join: '{command}', knows: LEAVE}}\n"
    )
    assert main(["up", "-f", str(path)]) == 0
    yield path
    main(["down", "-f", str(path)])


def said(capsys: pytest.CaptureFixture[str], file: Path, *args: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main([*args, "-f", str(file)]) == code
    output = capsys.readouterr()
    return output.out + output.err


def test_what_servers_do_not_tell_is_a_dash(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, file, "status").splitlines()

    assert lines[0].startswith("own: 2 of 2 nodes running, no faults")
    keys = lines[1].split().index("KEYS")
    assert [line.split()[keys] for line in lines[2:4]] == ["-", "-"]
    assert lines[-1] == "next: kvlab kill one"


def test_data_and_load_go_to_them(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, file, "set", "k", "v") == "OK\n"
    assert said(capsys, file, "get", "k") == "v\n"
    assert "answered" in said(capsys, file, "bench", "--count", "100", "--keys", "10", "-c", "2")


@pytest.mark.parametrize(
    "verb", [["ring"], ["keys", "k"], ["moves"], ["ring", "plan", "--add", "1"]]
)
def test_there_is_no_ring_to_ask_for(
    file: Path, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    assert "these servers are not kvlab's own" in said(capsys, file, *verb, code=2)


def test_nodes_join_and_leave_where_they_can(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    added = said(capsys, file, "add")
    assert "server3 serves at 127.0.0.1:" in added
    assert "epoch" not in added
    assert "server3 left" in said(capsys, file, "remove", "server3")
