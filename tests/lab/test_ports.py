from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kvlab.errors import PortTakenError, UsageError
from kvlab.lab.ports import CHOICE, Reservation, candidates
from tests.lab.lab_tools import refuses

pytestmark = pytest.mark.live


@pytest.fixture
def place() -> Reservation:
    return Reservation("127.0.0.1", 0, "server1")


def test_a_reserved_port_refuses_until_it_is_listened_on_and_again_after(
    place: Reservation,
) -> None:
    for _ in range(3):
        assert refuses(place.address, place.port)
        with place.listen(), socket.create_connection((place.address, place.port)):
            pass
    assert refuses(place.address, place.port)
    place.close()


def test_a_port_that_lasts_is_none_that_the_kernel_gives_away() -> None:
    place = Reservation("127.0.0.1", 0, "server1", lasts=True)
    kernels = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    low, high = map(int, kernels)
    drawn = list(candidates())
    assert not [port for port in drawn if low <= port <= high]
    assert place.port in CHOICE or not drawn
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", place.port))
    place.close()


def test_the_kernel_gives_a_reserved_port_to_nobody_else(place: Reservation) -> None:
    others = [Reservation("127.0.0.1", 0) for _ in range(200)]
    assert place.port not in {other.port for other in others}
    for other in (*others, place):
        other.close()


def test_an_old_connection_does_not_block_the_port(place: Reservation) -> None:
    with place.listen() as listener:
        client = socket.create_connection((place.address, place.port))
        server, _ = listener.accept()
        server.close()  # this end closes first, so TIME_WAIT stays on our port
        client.close()
    with place.listen():
        assert not refuses(place.address, place.port)
    place.close()


def test_a_taken_port_names_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            PortTakenError, match=f"{port} of server7 is taken by process {os.getpid()}"
        ):
            Reservation("127.0.0.1", port, "server7")


def test_an_unknown_host_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown"):
        Reservation("no such host", 0)
