"""parse_cluster: what a file may say, what it means, and what a person reads when it is wrong."""

from __future__ import annotations

from textwrap import dedent

import pytest

from kvlab.errors import SpecError
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
    StopSpec,
    StorageSpec,
    parse_cluster,
)


def problems_of(text: str) -> list[str]:
    """The problems of a text that has some, without the file's name in front."""
    with pytest.raises(SpecError) as caught:
        parse_cluster(dedent(text))
    prefix = "cluster.yaml:"
    assert all(problem.startswith(prefix) for problem in caught.value.problems)
    return [problem.removeprefix(prefix) for problem in caught.value.problems]


def test_a_count_is_a_whole_cluster():
    assert parse_cluster("nodes: 3") == ClusterSpec(
        nodes=(NodeSpec("server1"), NodeSpec("server2"), NodeSpec("server3"))
    )


def test_every_key_arrives_in_its_field():
    text = """
        version: 1
        name: ring-5
        engine: kvlab
        seed: 7
        nodes: {count: 2, name: "n{i}", host: localhost, base_port: 9001}
        replication: {n: 5, r: 1, w: 4}
        ranges: 64
        dead_after: 90s
        storage: {sync: os}
        restart: {policy: always, backoff: [50ms, 2s], max: 9, window: 1m}
        stop: {signal: sigint, grace: 0ms}
        ready: {timeout: 2.5s}
        network: {shims: true, default: {latency: 20ms, jitter: 500us}}
        limits: {open_files: 256}
        log: {level: debug}
    """
    assert parse_cluster(dedent(text)) == ClusterSpec(
        version=1,
        name="ring-5",
        engine=EngineSpec(),
        seed=7,
        nodes=(NodeSpec("n1", "127.0.0.1", 9001), NodeSpec("n2", "127.0.0.1", 9002)),
        replication=ReplicationSpec(n=5, r=1, w=4),
        ranges=64,
        dead_after_us=90_000_000,
        storage=StorageSpec("os"),
        restart=RestartSpec("always", 50_000, 2_000_000, 9, 60_000_000),
        stop=StopSpec("INT", 0),
        ready=ReadySpec(2_500_000),
        network=NetworkSpec(shims=True, default=LinkSpec(20_000, 500)),
        limits=LimitsSpec(256),
        log=LogSpec("debug"),
    )


def test_a_section_whose_lines_are_all_commented_out_means_the_defaults():
    assert parse_cluster("nodes: 1\nrestart:\n#  max: 3\nseed:\n") == parse_cluster("nodes: 1")


@pytest.mark.parametrize(("n", "majority"), [(1, 1), (2, 2), (3, 2), (5, 3)])
def test_quorums_are_majorities_unless_the_file_says_else(n, majority):
    copies = parse_cluster(f"nodes: 5\nreplication: {{n: {n}}}").replication
    assert (copies.r, copies.w) == (majority, majority)


@pytest.mark.parametrize("name", ["on", "no", "123", "null-1", "1e3"])
def test_names_are_what_was_written_not_what_yaml_makes_of_them(name):
    assert parse_cluster(f"name: {name}\nnodes: 1").name == name


def test_all_problems_are_reported_at_once_in_the_order_of_the_file():
    text = """\
        name: my cluster
        version: 2
        enginee: kvlab
        seed: -1
        nodes:
          count: -3
          base_port: 80
        replication: {n: 2, r: 3}
        ranges: 100
        restart:
          policy: sometimes
          backoff: [5s, 100ms]
          max: many
        stop: {signal: USR9, grace: 3}
        ready: 10s
        network:
          shims: no
          default: {latency: 1d}
        limits: {open_files: 3}
        log: {level: }
        """
    assert problems_of(text) == [
        "1: name is my cluster; write letters, digits, - and _, at most 40, such as ring5",
        "2: version is 2; write 1",
        "3: enginee is not a key here; did you mean engine?",
        "4: seed is -1; write a whole number from 0 to 9223372036854775807",
        "6: nodes.count is -3; write a whole number from 1 to 100",
        "7: nodes.base_port is 80; write 0 (any free one) or a port from 1024 to 65535",
        "8: replication.r is 3, more than n; write a whole number from 1 to 2",
        "9: ranges is 100; write a power of two from 16 to 4096, such as 256",
        "11: restart.policy is sometimes; write never, on-failure or always",
        (
            "12: restart.backoff is a list whose first wait is the longer one;"
            " write the shortest and the longest wait, such as [100ms, 5s]"
        ),
        "13: restart.max is many; write a whole number from 0 to 1000",
        "14: stop.signal is USR9; write TERM, INT, HUP, QUIT or KILL",
        "14: stop.grace is 3, which has no unit; write 3ms or 3s (units: us, ms, s, m, h)",
        "15: ready is 10s; write keys and values, such as ready: {timeout: 10s}",
        "17: network.shims is no; write true or false",
        (
            "18: network.default.latency is 1d, which has the unit 'd', which a duration has not;"
            " use us, ms, s, m, h"
        ),
        "19: limits.open_files is 3; write a whole number from 64 to 1048576",
        "20: log.level is empty; write debug, info, warning or error",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "engine: redis",
            (
                "engine is redis; write kvlab, or the command of a server of your own:"
                ' {command: "./server --listen {host}:{port} --peers {peers}"}'
            ),
        ),
        (
            "restart: {backoff: 100ms}",
            (
                "restart.backoff is 100ms; write the shortest and the longest wait, such as"
                " [100ms, 5s]"
            ),
        ),
        (
            "restart: {backoff: [1s]}",
            (
                "restart.backoff is a list of 1; write the shortest and the longest wait, such as"
                " [100ms, 5s]"
            ),
        ),
        (
            "restart: {backoff: [1s, 3]}",
            "restart.backoff[2] is 3, which has no unit; write 3ms or 3s (units: us, ms, s, m, h)",
        ),
        (
            "restart: {window: 10h}",
            "restart.window is 10h; write a duration from 1s to 1h, such as 5s",
        ),
        (
            "ready: {timeout: [10s]}",
            "ready.timeout is a list; write a duration from 100ms to 10m, such as 200ms",
        ),
        (
            "network: {shims: false, default: {latency: 5ms}}",
            (
                "network.shims is false, but default has a delay; write true:"
                " only shims can delay links"
            ),
        ),
        (
            "latency: 5ms",
            (
                "latency is not a key here; the keys here are nodes, version, name, engine, seed,"
                " replication, ranges, dead_after, storage, restart, stop, ready, network, limits, log,"
                " security"
            ),
        ),
        ("ranges: 0256", "ranges is 0256; write a power of two from 16 to 4096, such as 256"),
        (
            "storage: {sync: never}",
            "storage.sync is never; write always, interval, os or memory",
        ),
        (
            "security: {tls: {cert: c.pem}}",
            "security.tls.key is missing; write the file that belongs to security.tls.cert",
        ),
        (
            "security: {tls: {ca: ca.pem}}",
            "security.tls.cert is missing; write the file that belongs to security.tls.ca",
        ),
        (
            "security: {password_file: [a]}",
            "security.password_file is a list; write the name of a file, such as ./secret",
        ),
        (
            "security: {password: geheim}",
            "security.password is not a key here; did you mean password_file?",
        ),
        ("seed: 1e3", "seed is 1e3; write a whole number from 0 to 9223372036854775807"),
        ("replication: {n: 99}", "replication.n is 99; write a whole number from 1 to 16"),
        ("log: {levle: info}", "log.levle is not a key here; did you mean level?"),
        (
            f"name: {'a' * 41}",
            f"name is {'a' * 37}...; write letters, digits, - and _, at most 40, such as ring5",
        ),
        (
            'name: "a\\nb"',
            "name is 'a\\nb'; write letters, digits, - and _, at most 40, such as ring5",
        ),
    ],
)
def test_a_problem_says_where_what_and_what_to_write(line, problem):
    assert problems_of(f"nodes: 3\n{line}\n") == [f"2: {problem}"]


def test_a_wrong_n_brings_no_second_problem_about_r_and_w():
    assert len(problems_of("nodes: 5\nreplication: {n: x, r: 4, w: 4}")) == 1


def test_the_error_counts_problems_and_shows_them_in_a_traceback():
    with pytest.raises(SpecError) as caught:
        parse_cluster("nodes: 0\nseed: x\n", source="my.yaml")
    assert str(caught.value) == "my.yaml has 2 problems"
    assert caught.value.problems[0].startswith("my.yaml:1: ")
    assert tuple(caught.value.__notes__) == caught.value.problems


def test_of_very_many_problems_the_first_fifty_are_shown():
    found = problems_of("nodes: 1\n" + "".join(f"bad{i}: 1\n" for i in range(60)))
    assert len(found) == 51
    assert found[-1] == " and 10 more problems"


def test_servers_by_a_command_are_not_told_what_to_ask_for():
    text = """
nodes: 1
engine: {command: [a, "{port}"]}
security: {password_file: f}
"""
    with pytest.raises(SpecError, match="servers of a command are told by that"):
        parse_cluster(text)
