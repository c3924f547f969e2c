from __future__ import annotations

import pytest

from kvlab.kv.state import Settings
from kvlab.rng import Rng
from kvlab.sim.clock import Clock
from kvlab.sim.host import START_US, Host
from kvlab.sim.network import Network
from kvlab.sim.watch import Watch


def settings(boot: int) -> Settings:
    return Settings(
        id="server1", cluster="c", address="server1:1", client_address="server1:1", boot=boot
    )


@pytest.fixture
def host() -> Host:
    clock = Clock()
    return Host("server1", clock, Network(clock, Rng(1)), Watch(), Rng(1, "host"))


def boot_of(host: Host) -> int:
    host.start(settings, ())
    assert host.life is not None
    return host.life.node.state.settings.boot


def test_the_disk_outlives_a_killed_process_and_loses_what_was_not_synced_with_the_power(
    host,
) -> None:
    boot_of(host)
    file = host.disk.create("log")
    file.append(b"synced")
    file.sync()
    host.disk.sync_dir()
    host.clock.run(host.disk.done_us)
    file.append(b" or not")

    host.end()
    assert host.disk.open("log").read_at(0, 99) == b"synced or not"

    boot_of(host)
    host.end(power="off", polite=False)
    host.clock.run(1)
    assert host.disk.open("log").read_at(0, 99).startswith(b"synced")


def test_a_step_of_the_clock_shows_in_the_next_life(host) -> None:
    first = boot_of(host)
    life = host.life
    host.skew_us = 5_000
    host.clock.run(1_000)
    assert (first, host.now_us(life)) == (START_US, START_US + 1_000)

    host.end()
    assert boot_of(host) == START_US + 1_000 + 5_000


def test_a_paused_process_hears_everything_later_and_in_order(host) -> None:
    boot_of(host)
    heard = []
    host.pause()
    host.hear(heard.append, 1)
    host.hear(heard.append, 2)
    assert heard == []

    host.resume()
    assert (heard, host.missed) == ([1, 2], 2)


def test_what_was_meant_for_one_life_does_not_reach_the_next(host) -> None:
    boot_of(host)
    heard, life = [], host.life
    host.end()
    boot_of(host)

    host.hear_of(life, heard.append, 1)
    assert heard == []


def test_a_node_that_raises_ends_and_is_told_of(host) -> None:
    boot_of(host)
    host.hear(int, "no number")

    assert (host.life, host.power) == (None, "no process")
    assert "invalid literal" in host._watch.found["crashes"][0]
