"""The shim's control socket under input that no supervisor would send."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from kvlab.lab.shim import LINE_BYTES_MAX

pytestmark = pytest.mark.live


@contextmanager
def shim(*arguments: str):
    """Give the control socket's file and the process."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "kvlab.lab.shim", "--control-fd", str(theirs.fileno())]
        process = subprocess.Popen([*command, *arguments], pass_fds=(theirs.fileno(),))
        theirs.close()
        ours.settimeout(10)
        with ours.makefile("rwb") as file:
            try:
                yield file, process
            finally:
                process.kill()
                process.wait()


def ask(file, line: bytes) -> dict:
    file.write(line + b"\n")
    file.flush()
    return json.loads(file.readline())


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"[" * 100_000,
        b"{}",
        b'{"id":1,"verb":"dance"}',
        b'{"id":1,"verb":["cut"]}',
        b'{"id":1,"verb":"cut"}',
        b'{"id":1,"verb":"cut","links":[["a"]]}',
        b'{"id":1,"verb":"cut","links":[["a",7]]}',
        b'{"id":1,"verb":"cut","links":[],"mode":["hold"]}',
        b'{"id":1,"verb":"add","node":"a"}',
        b'{"id":1,"verb":"add","node":7,"upstream":["127.0.0.1",1]}',
        b'{"id":1,"verb":"add","node":"a","upstream":["127.0.0.1",70000]}',
        b'{"id":1,"verb":"add","node":"a","upstream":["127.0.0.1",1],"listen":["nowhere",0]}',
        b'{"id":1,"verb":"set_pid","node":"a","pid":-1}',
        b'{"id":1,"verb":"set_rule","links":[],"rule":7}',
        b'{"id":1,"verb":"set_rule","links":[],"rule":{"latency_us":1e400}}',
        b'{"id":1,"verb":"remove","node":"a"}',
    ],
)
def test_a_bad_request_is_answered_with_an_error_and_the_next_one_is_served(line):
    with shim() as (file, _):
        answer = ask(file, line)
        assert answer["ok"] is False
        assert answer["error"]["message"]
        assert ask(file, b'{"id":2,"verb":"heal"}') == {"id": 2, "ok": True, "result": 0}


def test_a_line_over_the_limit_is_refused_once_and_the_next_one_is_served():
    with shim() as (file, _):
        answer = ask(file, b"x" * (2 * LINE_BYTES_MAX))
        assert str(LINE_BYTES_MAX) in answer["error"]["message"]
        assert ask(file, b'{"id":3,"verb":"snapshot"}')["id"] == 3


def test_requests_sent_in_one_piece_are_answered_in_order():
    with shim() as (file, _):
        file.write(
            b'{"id":1,"verb":"heal"}\n\n{"id":2,"verb":"snapshot"}\n{"id":3,"verb":"heal"}\n'
        )
        file.flush()
        assert [json.loads(file.readline())["id"] for _ in range(3)] == [1, 2, 3]


def test_the_process_ends_in_order_when_the_control_socket_closes():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "kvlab.lab.shim", "--control-fd", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
        )
    assert process.wait(10) == 0


def test_the_process_ends_at_once_when_its_parent_is_not_the_one_it_was_told():
    with shim("--parent", "1") as (file, process):
        assert process.wait(10) == 0
        assert file.read() == b""
