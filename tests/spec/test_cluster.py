"""ClusterSpec: a resolved file reads back, notes are fair, and the example is what it claims."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvlab.spec import (
    ClusterSpec,
    EngineSpec,
    LimitsSpec,
    LinkSpec,
    LogSpec,
    NetworkSpec,
    NodeSpec,
    ReadySpec,
    ReplicationSpec,
    RestartSpec,
    SecuritySpec,
    StopSpec,
    StorageSpec,
    TlsSpec,
    parse_cluster,
)
from kvlab.spec.cluster_nodes import SELECTORS

EXAMPLE = (Path(__file__).parents[2] / "cluster.yaml").read_text()
MINUTE_US = 60_000_000

names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,39}\Z").filter(
    lambda name: name.lower() not in SELECTORS
)
node_specs = st.builds(
    NodeSpec,
    id=names,
    host=st.integers(1, 254).map(lambda last: f"127.0.0.{last}"),
    port=st.just(0) | st.integers(1024, 65_535),
    weight=st.floats(0.01, 100),
    rack=st.none() | names,
)
node_lists = st.lists(
    node_specs,
    min_size=1,
    max_size=6,
    unique_by=(lambda node: node.id, lambda node: node.addr if node.port else node.id),
).map(tuple)


@st.composite
def replications(draw):
    n = draw(st.integers(1, 16))
    return ReplicationSpec(n, draw(st.integers(1, n)), draw(st.integers(1, n)))


@st.composite
def restarts(draw):
    waits = st.integers(1_000, 10 * MINUTE_US)
    shortest, longest = sorted([draw(waits), draw(waits)])
    policy = draw(st.sampled_from(["never", "on-failure", "always"]))
    window_us = draw(st.integers(1_000_000, 60 * MINUTE_US))
    return RestartSpec(policy, shortest, longest, draw(st.integers(0, 1000)), window_us)


words = st.text(
    st.characters(exclude_characters="{}\0", codec="utf-8", max_codepoint=0xFFFF), max_size=9
)
templates = st.lists(words | st.sampled_from(["{id}", "{{id}}", '{"a": 1}']), max_size=4).map(
    "".join
)


@st.composite
def engines(draw):
    """Draw a command with its port somewhere in it, or kvlab's own node."""
    protocol = draw(st.sampled_from(["json", "resp"]))
    variables = st.dictionaries(
        st.from_regex(r"\A[A-JL-Z_][A-Z0-9_]{0,9}\Z"), templates, max_size=3
    )
    known = st.sampled_from([(), ("LEAVE",), ("STATUS", "LEAVE")])
    command, join = draw(st.lists(templates, max_size=4)), draw(st.none() | st.lists(templates))
    return EngineSpec(
        command=("./server", *command, "{port}"),
        join=() if join is None else ("./server", "{port}", *join),
        protocol=protocol,
        probe=draw(st.sampled_from(["get", "ping", "connect"])),
        knows=draw(known) if protocol == "json" else (),
        env=tuple(draw(variables).items()),
    )


delays = st.builds(LinkSpec, st.integers(0, MINUTE_US), st.integers(0, MINUTE_US))
paths = st.sampled_from(["", "password", "./a file", "/etc/kvlab/secret", "null", "1", "\u00e4: #"])
certificates = st.builds(TlsSpec, st.just("cert.pem"), st.just("key.pem"), paths)
specs = st.builds(
    ClusterSpec,
    nodes=node_lists,
    name=names,
    engine=st.just(EngineSpec()) | engines(),
    seed=st.none() | st.integers(0, 2**63 - 1),
    replication=replications(),
    ranges=st.integers(4, 12).map(lambda power: 1 << power),
    dead_after_us=st.integers(0, 24 * 60 * MINUTE_US),
    storage=st.builds(StorageSpec, st.sampled_from(["always", "interval", "os", "memory"])),
    restart=restarts(),
    stop=st.builds(
        StopSpec,
        st.sampled_from(["TERM", "INT", "HUP", "QUIT", "KILL"]),
        st.integers(0, 10 * MINUTE_US),
    ),
    ready=st.builds(ReadySpec, st.integers(100_000, 10 * MINUTE_US)),
    network=st.builds(NetworkSpec, st.just(True), delays) | st.just(NetworkSpec(shims=False)),
    limits=st.builds(LimitsSpec, st.integers(64, 1 << 20)),
    log=st.builds(LogSpec, st.sampled_from(["debug", "info", "warning", "error"])),
    security=st.builds(SecuritySpec, paths, paths, st.just(TlsSpec()) | certificates),
).map(
    lambda spec: dataclasses.replace(spec, security=SecuritySpec()) if spec.engine.command else spec
)


# A spec has so many parts that a busy machine draws them slowly.
patient = settings(suppress_health_check=[HealthCheck.too_slow])


@patient
@given(specs)
def test_a_resolved_spec_reads_back_to_itself(spec):
    assert parse_cluster(spec.to_yaml()) == spec


@patient
@given(specs)
def test_a_resolved_spec_goes_through_json(spec):
    assert parse_cluster(json.dumps(spec.to_builtins())) == spec


def test_a_resolved_spec_leaves_nothing_out():
    resolved = parse_cluster("nodes: 1").to_builtins()
    assert set(resolved) == {
        field.name.removesuffix("_us") for field in dataclasses.fields(ClusterSpec)
    }


def test_node_ids_keep_the_order_of_the_file():
    assert parse_cluster("nodes: [{id: b}, {id: a}]").node_ids == ("b", "a")


def test_specs_are_values():
    spec = parse_cluster("nodes: 1")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.seed = 3
    assert hash(spec) == hash(parse_cluster("nodes: 1"))


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("nodes: 3", ()),
        (
            "nodes: 1",
            ("replication.n is 3, but there is 1 node: each key has 1 copy until more join",),
        ),
        (
            "nodes: 2\nreplication: {n: 5}",
            ("replication.n is 5, but there are 2 nodes: each key has 2 copies until more join",),
        ),
        (
            "nodes: 3\nreplication: {r: 1}",
            (
                (
                    "replication.r + replication.w is 3, not more than n (3): a read can miss the"
                    " newest write"
                ),
            ),
        ),
        (
            "nodes: 20\nranges: 16",
            ("ranges is 16, but there are 20 nodes: the ring cannot be shared evenly",),
        ),
        (
            "nodes: [{rack: a}, {rack: b}, {}]",
            ("some nodes have a rack, but server3 has none: it counts as a rack of its own",),
        ),
        (
            "nodes: [{rack: a}, {rack: b}, {rack: a}]",
            ("there are 2 racks for 3 copies: some copies of a key share a rack",),
        ),
        ("nodes: [{rack: a}, {rack: b}, {rack: c}]", ()),
    ],
)
def test_notes_tell_what_is_perhaps_not_meant(text, notes):
    assert parse_cluster(text).notes == notes


def test_the_example_is_five_servers_on_localhost():
    spec = parse_cluster(EXAMPLE)
    assert [(node.id, node.addr) for node in spec.nodes] == [
        (f"server{i}", f"127.0.0.1:{8080 + i}") for i in range(1, 6)
    ]
    assert spec.notes == ()


def test_the_example_shows_every_default_as_it_is():
    spec = parse_cluster(EXAMPLE)
    assert spec == ClusterSpec(nodes=spec.nodes, name="demo", seed=42)
    keys = {line.split(":")[0] for line in EXAMPLE.splitlines() if line[:1].isalpha()}
    assert keys == {field.name.removesuffix("_us") for field in dataclasses.fields(ClusterSpec)}


def test_every_value_of_the_example_has_its_comment():
    bare = [
        line
        for line in EXAMPLE.splitlines()
        if line.partition(":")[2].strip() and "#" not in line and "- {" not in line
    ]
    assert bare == []
