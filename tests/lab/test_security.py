"""Clusters that ask for something: started, broken, loaded and asked by the laboratory."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from kvlab.cli import main
from kvlab.errors import ClientError, UsageError
from kvlab.lab.daemonize import start_daemon
from kvlab.lab.load import load_keys, read_all, run_load
from kvlab.lab.load_plan import LoadPlan
from kvlab.lab.security import LabSecurity
from kvlab.lab.state import find_cluster
from kvlab.lab.supervisor import Lab
from kvlab.live.security import Access
from kvlab.spec import parse_cluster

from ..live.certificates import make_pem  # noqa: TID252 - the one helper that is shared

pytestmark = pytest.mark.live

WORD = "correct horse"
SPEC = """
nodes: 3
storage: {sync: memory}
security:
  password_file: password
  cluster_secret_file: secret
"""
TLS = "  tls: {cert: our-cert.pem, key: our-key.pem, ca: our-ca.pem}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text(WORD + "\n")
    (tmp_path / "secret").write_text("a secret of many letters\n")
    make_pem(tmp_path, "our")
    return tmp_path


def test_a_cluster_with_all_of_it_is_run_loaded_and_grows(folder: Path) -> None:
    async def scene() -> None:
        async with Lab(parse_cluster(SPEC + TLS), folder / "state", folder=folder) as lab:
            addresses = [f"{host}:{port}" for host, port in lab.addresses.values()]
            loaded = await load_keys(addresses, 50, 20, access=lab.access)
            assert (loaded.answered, loaded.failed) == (50, 0)
            plan = LoadPlan(
                addresses=tuple(addresses),
                keys=50,
                clients=4,
                count=400,
                processes=2,
                access=lab.access,
            )
            result = await run_load(plan)
            assert (result.answered, result.failed) == (400, 0)
            with pytest.raises(ClientError, match="the password is wrong"):
                await run_load(LoadPlan(addresses=plan.addresses, count=1, access=_wrong(lab)))
            assert (await lab.act("kill", "server2"))[0].after == "stopped"
            await lab.act("start", "server2")
            assert (await lab.membership.add())["id"] == "server4"
            await lab.membership.remove("server1")
            reads = await read_all(addresses[1:], ["user1"], access=lab.access)
            assert not reads.unread

    asyncio.run(scene())


def _wrong(lab: Lab) -> Access:
    return Access("wrong", tls=True, ca=lab.access.ca)


def test_verbs_find_the_password_of_the_running_cluster(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "cluster.yaml"
    file.write_text(SPEC)
    monkeypatch.setenv("KVLAB_PASSWORD", "of another cluster")
    start_daemon(file)

    def kvlab(*argv: str) -> tuple[int, str]:
        code = main([*argv])
        told = capsys.readouterr()
        return code, told.out + told.err

    try:
        where = ("-f", str(file))
        assert kvlab("set", "city", "Berlin", *where) == (0, "OK\n")
        assert kvlab("get", "city", *where) == (0, "Berlin\n")
        for verb in (["ring"], ["keys", "city"], ["status"], ["moves"]):
            code, told = kvlab(*verb, *where, "--json")
            assert code == 0, told
            assert "no answer" not in told
        status = json.loads(kvlab("status", *where, "--json")[1])
        assert all(node["node"]["ready"] for node in status["nodes"])
        node = find_cluster(file).nodes["server1"]
        address = ("--addr", f"{node.host}:{node.port}")
        assert kvlab("get", "city", *address)[0] == 5
        told = kvlab("get", "city", *address, "--password-file", str(folder / "password"))
        assert told == (0, "Berlin\n")
        monkeypatch.setenv("KVLAB_PASSWORD", WORD)
        assert kvlab("get", "city", *address) == (0, "Berlin\n")
        assert kvlab("ring", *address, "--json")[0] == 0
        monkeypatch.delenv("KVLAB_PASSWORD")
        code, told = kvlab("get", "city", *address)
        assert code == 5
        assert "hint: tell the password: --password-file FILE, or KVLAB_PASSWORD" in told
        assert WORD not in find_cluster(file).directory.supervisor.read_text()
    finally:
        kvlab("down", *where)


def test_files_that_others_can_read_are_warned_of(folder: Path) -> None:
    said: list[str] = []
    (folder / "secret").chmod(0o644)
    (folder / "password").chmod(0o600)

    LabSecurity.of(parse_cluster(SPEC).security, folder).access(said.append)

    secret = folder.resolve() / "secret"
    assert said == [f"the cluster secret {secret} can be read by others; chmod 600 {secret}"]


def test_files_that_hold_nothing_are_told_before_anything_starts(folder: Path) -> None:
    (folder / "secret").write_text("short\n")
    with pytest.raises(UsageError, match="shorter than 16 bytes"):
        Lab(parse_cluster(SPEC), folder / "state", folder=folder)
    (folder / "password").unlink()
    with pytest.raises(UsageError, match="No such file"):
        Lab(parse_cluster("nodes: 1\nsecurity: {password_file: password}"), folder, folder=folder)
