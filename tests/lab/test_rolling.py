"""A rolling restart of real nodes under load: nobody is told that something failed, nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kvlab.errors import InfraError, UsageError
from kvlab.lab import rolling
from kvlab.lab.supervisor import Lab
from kvlab.live.client import Client
from kvlab.spec import parse_cluster
from tests.lab.lab_tools import eventually, make_lab

pytestmark = pytest.mark.live


def _spec(sync: str) -> Any:
    return parse_cluster(f"name: rolling\nnodes: 3\nstorage: {{sync: {sync}}}\n")


async def _write(client: Client, name: str, kept: dict[str, str], stop: asyncio.Event) -> None:
    number = 0
    while not stop.is_set():
        key = f"{name}-{number % 50}"
        await client.set(key, str(number))
        kept[key] = str(number)
        assert await client.get(key) == str(number)
        number += 1


@pytest.mark.parametrize("sync", ["always", "memory"])
def test_a_rolling_restart_loses_no_request_and_no_data(tmp_path: Path, sync: str) -> None:
    async def scene() -> None:
        async with Lab(_spec(sync), tmp_path / "state") as lab:
            addresses = list(lab.addresses.values())
            kept: dict[str, str] = {}
            stop = asyncio.Event()
            clients = [Client(addresses[at:] + addresses[:at]) for at in range(3)]
            writers = [
                asyncio.ensure_future(_write(client, f"w{at}", kept, stop))
                for at, client in enumerate(clients)
            ]
            before = {member.id: member.pid for member in lab.members.values()}
            said: list[str] = []

            proofs = await lab.restart_in_turn("all", None, lambda one: said.append(one["text"]))

            # However slow the machine, each writer must have been at work through all of it.
            await eventually(lambda: len(kept) == 150, timeout_s=60)
            stop.set()
            await asyncio.gather(*writers)
            assert [proof.id for proof in proofs] == ["server1", "server2", "server3"]
            assert all(proof.pid != before[proof.id] for proof in proofs)
            assert len(said) == 3
            assert "1 of 3" in said[0]
            for client in clients:
                for key, value in kept.items():
                    assert await client.get(key, level="all") == value
                await client.close()

    asyncio.run(scene())


def test_with_a_node_down_nothing_is_restarted(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Lab(_spec("always"), tmp_path / "state") as lab:
            await lab.act("stop", "server2")
            pids = [member.pid for member in lab.members.values()]

            with pytest.raises(UsageError, match="server2 does not answer"):
                await lab.restart_in_turn("server1")

            assert [member.pid for member in lab.members.values()] == pids

    asyncio.run(scene())


def test_nodes_that_do_not_become_whole_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling, "WHOLE_SECONDS_MAX", 0.05)

    async def scene() -> None:
        async with make_lab(tmp_path) as lab:
            monkeypatch.setattr(lab.engine, "why_busy", lambda node, _: f"{node} is still moving")

            with pytest.raises(InfraError, match="server1 is still moving after") as raised:
                await lab.restart_in_turn("server2,server3")

            assert raised.value.hint == "not restarted: server2, server3"
            assert all(member.restarts == 0 for member in lab.members.values())

    asyncio.run(scene())
