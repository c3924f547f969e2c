"""What a machine lacks: each finding, on this machine and on one that is made worse."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from kvlab.lab import doctor
from kvlab.lab.doctor import Finding, examine
from kvlab.lab.reap import LeftProcess


def _found(folder: Path, name: str) -> Finding:
    [found] = [one for one in examine(folder) if one.name == name]
    return found


def test_this_machine_can_run_clusters_and_keeps_no_trace(tmp_path: Path) -> None:
    findings = examine(tmp_path / "state")

    assert len({one.name for one in findings}) == 9
    assert [one for one in findings if one.state == "missing"] == []
    assert all(one.said for one in findings)
    assert all(bool(one.advice) == (one.state != "ok") for one in findings)
    assert os.listdir(tmp_path) == []


def test_without_process_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")

    found = _found(tmp_path, "processes")

    assert (found.state, found.advice.split(":")[0]) == ("missing", "use Linux 5.3 or later")


def test_where_descriptors_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "pidfd_open", refuse)

    found = _found(tmp_path, "processes")

    assert found.state == "missing"
    assert "not permitted" in found.said


def test_with_few_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (256, 4096))

    found = _found(tmp_path, "open files")

    assert (found.state, found.said) == ("missing", "256 open files, 4,096 at most")
    assert "ulimit -n 1024" in found.advice


def test_without_loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(socket, "create_server", refuse)

    assert _found(tmp_path, "loopback").state == "missing"


def test_in_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    found = _found(tmp_path / "absent" / "state", "disk")

    assert found.state == "missing"
    assert "cannot write" in found.said


@pytest.mark.parametrize(
    ("limit", "name"),
    [
        ("SYNC_US_MAX", "disk"),
        ("TIMER_US_MAX", "timer"),
        ("LOOPBACK_US_MAX", "loopback"),
    ],
)
def test_what_is_slow_is_said_with_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, name: str
) -> None:
    monkeypatch.setattr(doctor, limit, -1)

    found = _found(tmp_path, name)

    assert found.state == "slow"
    assert found.advice


def test_with_little_memory_and_somebody_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Memory:
        available = 100 << 20

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    left = [LeftProcess(4711, 0.0, "kv:server1", "state")]
    monkeypatch.setattr(doctor, "find_processes", lambda: left)

    assert _found(tmp_path, "memory").state == "slow"
    assert "4711" in _found(tmp_path, "leftovers").said
