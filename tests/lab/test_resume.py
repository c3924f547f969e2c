"""What a cluster goes on with, and what it is refused: dialogues of the pure decision."""

from __future__ import annotations

import pytest

from kvlab.errors import InfraError, SpecError
from kvlab.lab.kept import Kept, KeptNode, clear_all, read_kept, write_kept, written_us
from kvlab.lab.resume import Beginning, anew, go_on
from kvlab.lab.state import StateDir
from kvlab.spec import parse_cluster


def kept(*ids: str, **more: object) -> Kept:
    nodes = [
        KeptNode(id=one, host="127.0.0.1", port=20_001 + i, shim_port=21_001 + i, index=i + 1)
        for i, one in enumerate(ids)
    ]
    shape = {"engine": "kvlab", "ranges": 256, "copies": 3, "shims": True, "founded": True}
    return Kept(**(shape | {"nodes": nodes} | more))  # type: ignore[arg-type]


def resume(text: str, there: Kept, engine: str = "kvlab") -> Beginning:
    spec = parse_cluster(f"name: demo\n{text}")
    return go_on(spec, there, engine=engine, is_ours=engine == "kvlab", file="cluster.yaml")


def problems(text: str, there: Kept, engine: str = "kvlab") -> list[str]:
    with pytest.raises(SpecError, match=r"cluster\.yaml does not fit the data of demo") as caught:
        resume(text, there, engine)
    assert "kvlab up --fresh" in caught.value.hint
    return [one.removeprefix("cluster.yaml: ") for one in caught.value.problems]


def test_anew_are_the_nodes_of_the_file() -> None:
    begun = anew(parse_cluster("nodes: 2"), "why")

    assert [(one.id, one.port, one.index, one.founder) for one in begun.nodes] == [
        ("server1", 0, 1, True),
        ("server2", 0, 2, True),
    ]
    assert (begun.is_resumed, begun.joining, begun.notes) == (False, (), ("why",))


def test_members_go_on_at_their_addresses_with_who_was_added_and_without_who_left() -> None:
    there = kept("server1", "server2", "server9", removed=["server3"])
    there.nodes[2].added, there.nodes[2].founder = True, False

    begun = resume("nodes: 3", there)

    assert begun.is_resumed
    assert [(one.id, one.port, one.shim_port) for one in begun.nodes] == [
        ("server1", 20_001, 21_001),
        ("server2", 20_002, 21_002),
        ("server9", 20_003, 21_003),
    ]
    assert begun.joining == ()
    assert begun.removed == {"server3"}
    assert begun.notes == (
        "server3 stays out: it left by kvlab remove; kvlab add server3 takes it in",
    )


def test_who_is_new_in_the_file_joins() -> None:
    begun = resume("nodes: 3", kept("server1", "server2"))

    assert [one.id for one in begun.joining] == ["server3"]
    assert "server3 is new in the file" in begun.notes[0]


def test_who_is_gone_from_the_file_is_refused_unless_it_is_leaving() -> None:
    there = kept("server1", "server2", "server3")

    (told,) = problems("nodes: 2", there)
    assert told.startswith("server3 is not in the file, and holds a part of the data")
    assert told.endswith("kvlab remove server3")
    there.nodes[2].leaving = True
    assert len(resume("nodes: 2", there).nodes) == 3


def test_all_that_cannot_change_under_data_is_told_at_once() -> None:
    text = (
        "nodes: [{id: server1, addr: 'localhost:8081'}]\n"
        "ranges: 128\nreplication: {n: 2}\nnetwork: {shims: false}\n"
    )

    assert problems(text, kept("server1")) == [
        "ranges cannot change: write ranges: 256",
        "replication.n cannot change: write n: 3",
        "members know each other's addresses by network.shims: true: write it back",
        'server1 is known at another address: write addr: "127.0.0.1:20001"',
    ]


def test_another_engine_cannot_read_the_data() -> None:
    text = "nodes: 1\nengine: {command: 'serve {port}'}\n"

    told = problems(text, kept("server1"), engine="command")
    assert told == ["engine is command now, and cannot read the data of kvlab"]
    told = problems("nodes: 1", kept("server1", engine="command", ranges=16, copies=1))
    assert told == ["engine is kvlab now, and cannot read the data of command"]


def test_what_may_change_does_and_what_a_member_has_it_keeps() -> None:
    text = (
        "nodes: [{id: server1, addr: 'localhost:20001', weight: 2, rack: a}]\n"
        "replication: {n: 3, r: 1, w: 3}\nstorage: {sync: os}\ndead_after: 1m\n"
    )

    assert resume(text, kept("server1")).notes == (
        "server1 keeps weight 1: it is set when a node joins",
        "server1 keeps rack none: it is set when a node joins",
    )


def test_servers_by_others_may_change_what_only_ours_heed() -> None:
    text = "nodes: 1\nengine: {command: 'serve {port}'}\nranges: 16\nreplication: {n: 1}\n"

    assert resume(text, kept("server1", engine="command"), engine="command").is_resumed


def test_what_is_kept_is_read_as_it_was_written_and_cleared_with_the_data(tmp_path) -> None:
    state = StateDir(tmp_path)
    assert read_kept(state) is None
    assert written_us(state) == 0
    write_kept(state, kept("server1"))
    data = state.node_data("server1")
    data.mkdir(parents=True)
    (data / "lock").touch()
    assert written_us(state) == 0, "an empty file is no data"
    (data / "log").write_text("x")

    assert read_kept(state) == kept("server1")
    assert written_us(state) == (data / "log").stat().st_mtime_ns // 1000

    clear_all(state)
    assert (read_kept(state), written_us(state), data.exists()) == (None, 0, False)


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1}', '{"schema": 2, "engine": "kvlab"}'])
def test_what_cannot_be_understood_is_an_error_and_not_nothing(tmp_path, text: str) -> None:
    state = StateDir(tmp_path)
    state.kept.write_text(text)

    with pytest.raises(InfraError, match=r"cluster\.json") as caught:
        read_kept(state)
    assert "--fresh" in caught.value.hint
