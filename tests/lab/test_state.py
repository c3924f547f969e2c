from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvlab.errors import InfraError, KvlabError, NotRunningError, SpecError, UsageError
from kvlab.lab.control import from_fault, to_fault
from kvlab.lab.events import EventLog
from kvlab.lab.state import Lock, StateDir, connect_control, lock_owner, state_dir


@pytest.fixture
def directory(tmp_path: Path) -> StateDir:
    found = state_dir(tmp_path / "cluster.yaml", "lab")
    found.create()
    return found


def test_a_lock_has_one_holder_who_is_named(directory: StateDir) -> None:
    lock = Lock.acquire(directory)
    assert lock is not None
    assert Lock.acquire(directory) is None
    owner = lock_owner(directory)
    assert owner is not None
    assert owner.pid == os.getpid()
    lock.release()
    lock.release()
    assert not directory.lock.exists()
    assert lock_owner(directory) is None


def test_a_stale_lock_file_locks_nobody_out(directory: StateDir) -> None:
    directory.lock.write_text('{"pid": 1, "start_time": 1.0}\n')
    assert lock_owner(directory) is None
    lock = Lock.acquire(directory)
    assert lock is not None
    lock.release()


def test_releasing_does_not_remove_the_lock_of_another(directory: StateDir) -> None:
    first = Lock.acquire(directory)
    assert first is not None
    directory.lock.unlink()
    second = Lock.acquire(directory)
    assert second is not None
    first.release()
    assert Lock.acquire(directory) is None
    second.release()


def test_no_socket_is_no_daemon(directory: StateDir) -> None:
    with pytest.raises(NotRunningError, match="no daemon answers"):
        connect_control(directory.control)


def test_the_directory_is_private(directory: StateDir) -> None:
    assert directory.path.stat().st_mode & 0o777 == 0o700


def test_events_are_whole_lines_in_order(directory: StateDir) -> None:
    log = EventLog(directory.events)
    for number in range(3):
        log.add("start", f"server{number}", "pid 1")
    log.close()
    log.close()
    lines = directory.events.read_text().splitlines()
    assert [event.node for event in log.recent] == ["server0", "server1", "server2"]
    assert len(lines) == 3
    assert lines[0].startswith('{"at_us":')


@pytest.mark.parametrize(
    "error",
    [
        UsageError("no", hint="do"),
        InfraError("no"),
        SpecError("no", problems=("line 1: a", "line 2: b")),
    ],
)
def test_errors_pass_the_socket_with_class_and_words(error: KvlabError) -> None:
    back = from_fault(to_fault(error))
    assert type(back) is type(error)
    assert (back.message, back.hint) == (error.message, error.hint)
    if isinstance(error, SpecError):
        assert isinstance(back, SpecError)
        assert back.problems == error.problems
