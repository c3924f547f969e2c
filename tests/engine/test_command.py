"""CommandEngine: what is made of a template, which programs are found, what is refused and why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kvlab.engine import load_engine
from kvlab.engine.base import NodeStart, Place
from kvlab.engine.command import CommandEngine
from kvlab.errors import UsageError
from kvlab.spec import parse_cluster

PLACES = tuple(
    Place(f"server{i}", f"127.0.0.1:500{i}", f"127.0.0.1:400{i}", 1.0, "") for i in (1, 2, 3)
)


def engine_of(engine: str, folder: Path) -> CommandEngine:
    spec = parse_cluster(f"name: ring\nnodes: 3\nengine:\n{engine}")
    return CommandEngine().configured(spec, folder)


def start_of(node: int, *, founder: bool = True) -> NodeStart:
    return NodeStart(
        id=f"server{node}",
        index=node,
        cluster="ring",
        host="127.0.0.1",
        port=4000 + node,
        advertise=f"127.0.0.1:500{node}",
        initial=PLACES if founder else (),
        join=() if founder else ("127.0.0.1:5001",),
        members=PLACES,
        replication=3,
        read_quorum=2,
        write_quorum=2,
        ranges=256,
        dead_after_us=0,
        weight=1.0,
        rack="",
        data_dir="/state/server2/data",
        sync="always",
        log_level="info",
    )


def test_every_placeholder_is_filled_in(tmp_path: Path) -> None:
    engine = engine_of(
        """
  command: '{python} {id} {index} {host}:{port} {listen_fd} {advertise} {data} {cluster}'
  env: {PEERS: "{peers}", NAMED: "{peers_named}", ALL: "{members}",
    PARTS: "{advertise_host} {advertise_port}", PYTHONUNBUFFERED: ""}
""",
        tmp_path,
    )
    program = engine.program(start_of(2))

    assert program.argv == (
        *(sys.executable, "server2", "2", "127.0.0.1:4002", "{listen_fd}", "127.0.0.1:5002"),
        *("/state/server2/data", "ring"),
    )
    assert program.env == {
        "PYTHONUNBUFFERED": "",
        "PARTS": "127.0.0.1 5002",
        "PEERS": "127.0.0.1:5001,127.0.0.1:5003",
        "NAMED": "server1=127.0.0.1:5001,server3=127.0.0.1:5003",
        "ALL": "server1=127.0.0.1:5001,server2=127.0.0.1:5002,server3=127.0.0.1:5003",
    }
    assert program.cwd == str(tmp_path)
    assert program.inherits


def test_a_node_that_is_added_has_a_command_of_its_own(tmp_path: Path) -> None:
    engine = engine_of("  command: sh a {port}\n  join: sh b {port}\n", tmp_path)

    assert engine.program(start_of(1)).argv[1:] == ("a", "4001")
    assert engine.program(start_of(3, founder=False)).argv[1:] == ("b", "4003")
    assert not engine.program(start_of(1)).inherits


def test_programs_are_found_on_the_path_or_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "server"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)

    assert engine_of("  command: sh {port}", tmp_path).program(start_of(1)).argv[0].endswith("/sh")
    beside = engine_of("  command: bin/server {port}", tmp_path)
    assert beside.program(start_of(1)).argv[0] == str(script)
    by_path = engine_of(f"  command: server {{port}}\n  env: {{PATH: {tmp_path}/bin}}", tmp_path)
    assert by_path.program(start_of(1)).argv[0] == str(script)


@pytest.mark.parametrize(
    ("command", "said", "hint"),
    [
        ("no-such-program", "no program no-such-program on the PATH", "install it"),
        ("server.py", "no program server.py on the PATH", "write ./server.py"),
        ("./nosuch", "no program ", "begin at the folder"),
        ("./server.py", "server.py cannot be executed", "chmod +x ./server.py"),
    ],
)
def test_a_program_that_is_not_there_is_named(
    tmp_path: Path, command: str, said: str, hint: str
) -> None:
    (tmp_path / "server.py").write_text("")
    engine = engine_of(f"  command: {command} {{port}}", tmp_path)

    with pytest.raises(UsageError, match=said) as caught:
        engine.program(start_of(1))
    assert hint in caught.value.hint


def test_what_servers_do_not_tell_does_not_keep_anybody_waiting() -> None:
    engine = CommandEngine()

    assert engine.sees({"ready": True}, frozenset({"server2"}))
    assert not engine.sees({"peers": {"server2": "down"}}, frozenset({"server2"}))
    assert engine.why_busy("server1", {}) == ""
    assert engine.why_busy("server1", {"moving": 3}) == "server1 is still moving 3"


def test_joining_and_leaving_need_servers_that_can(tmp_path: Path) -> None:
    plain = engine_of("  command: sh {port}", tmp_path)
    able = engine_of("  command: sh {port}\n  join: sh {port}\n  knows: [LEAVE]\n", tmp_path)

    assert "engine.join" in plain.why_no_join()
    assert "LEAVE" in plain.why_no_leave()
    assert (able.why_no_join(), able.why_no_leave()) == ("", "")


def test_an_engine_by_name_needs_a_command_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no command to run"):
        load_engine("command").configured(parse_cluster("nodes: 1"), tmp_path)
