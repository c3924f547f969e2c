"""Finding the process at the other end of an accepted connection, with real sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack, closing, contextmanager

import pytest

from kvlab.lab import shim_caller
from kvlab.lab.shim_caller import Callers

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc and sock_diag are Linux"),
]

DIAL = """
import socket, sys
kept = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print(kept.getsockname()[1], flush=True)
sys.stdin.read()
"""
DIAL_FROM_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
child.wait()
"""


@contextmanager
def connected(family=socket.AF_INET, host="127.0.0.1", dial_family=None, dial_host=None):
    """Give the caller's and the accepted socket of one connection within this process."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.socket(family)))
        listener.bind((host, 0))
        listener.listen()
        caller = stack.enter_context(closing(socket.socket(dial_family or family)))
        caller.connect((dial_host or host, listener.getsockname()[1]))
        accepted = stack.enter_context(closing(listener.accept()[0]))
        yield caller, accepted


@contextmanager
def dialling(*command: str):
    """Give a child process, and the accepted socket of the connection that it (or its child) made."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = [str(part) for part in listener.getsockname()]
        child = subprocess.Popen(
            [sys.executable, "-c", *command, *address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            accepted, _ = listener.accept()
            with closing(accepted):
                yield child, accepted
        finally:
            child.communicate()


def inode_of(callers: Callers, accepted: socket.socket) -> int | None:
    return callers.inode(accepted.getpeername()[:2], accepted.getsockname()[:2])


@pytest.fixture(params=["sock_diag", "table"])
def callers(request):
    made = Callers()
    if request.param == "table":
        made.close()
    yield made
    made.close()


def test_the_callers_socket_is_found_by_the_two_addresses(callers):
    with connected() as (caller, accepted):
        assert inode_of(callers, accepted) == os.fstat(caller.fileno()).st_ino


def test_an_ipv4_connection_from_an_ipv6_socket_is_found(callers):
    mapped = {"dial_family": socket.AF_INET6, "dial_host": "::ffff:127.0.0.1"}
    with connected(**mapped) as (caller, accepted):
        assert inode_of(callers, accepted) == os.fstat(caller.fileno()).st_ino


def test_ipv6_is_found(callers):
    try:
        with connected(socket.AF_INET6, "::1") as (caller, accepted):
            assert inode_of(callers, accepted) == os.fstat(caller.fileno()).st_ino
    except OSError:
        pytest.skip("this machine has no ::1")


def test_a_caller_that_closed_has_no_owner_and_a_stranger_no_socket(callers):
    with connected() as (caller, accepted):
        ends = accepted.getpeername(), accepted.getsockname()
        caller.close()
        assert callers.inode(*ends) == 0
        assert callers.inode(("127.0.0.1", 1), ("127.0.0.1", 2)) is None


def test_only_registered_processes_own_sockets():
    callers = Callers()
    with connected() as (caller, _):
        inode = os.fstat(caller.fileno()).st_ino
        assert callers.owners([inode]) == {}
        callers.register("server1", os.getpid())
        assert callers.owners([inode, 0, 1]) == {inode: "server1"}
        callers.register("server1", None)
        assert callers.owners([inode]) == {}
    callers.close()


def test_descriptors_that_a_look_saw_before_are_looked_at_again():
    callers = Callers()
    callers.register("server1", os.getpid())
    with connected() as (caller, _):
        inode = os.fstat(caller.fileno()).st_ino
        assert callers.owners([inode]) == callers.owners([inode]) == {inode: "server1"}
    callers.close()


def test_two_processes_are_told_apart():
    callers = Callers()
    with dialling(DIAL) as (one, from_one), dialling(DIAL) as (two, from_two):
        callers.register("server1", one.pid)
        callers.register("server2", two.pid)
        inode_one, inode_two = inode_of(callers, from_one), inode_of(callers, from_two)
        assert callers.owners([inode_one, inode_two]) == {
            inode_one: "server1",
            inode_two: "server2",
        }
    callers.close()


def test_a_child_of_a_node_counts_as_the_node():
    callers = Callers()
    with dialling(DIAL_FROM_CHILD, DIAL) as (parent, accepted):
        callers.register("server1", parent.pid)
        inode = inode_of(callers, accepted)
        assert callers.owners([inode]) == {inode: "server1"}
    callers.close()


def test_a_process_that_is_gone_owns_nothing_and_disturbs_nobody():
    callers = Callers()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    callers.register("server1", gone.pid)
    callers.register("server2", os.getpid())
    with connected() as (caller, _):
        inode = os.fstat(caller.fileno()).st_ino
        assert callers.owners([inode]) == {inode: "server2"}
    callers.close()


def test_the_kernels_table_is_read_in_its_own_byte_order():
    assert shim_caller._table_text(("127.0.0.1", 80), mapped=False) in {
        "0100007F:0050",
        "7F000001:0050",
    }
