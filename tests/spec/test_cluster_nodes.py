"""The nodes of a file: three ways to write them, and what may not be among them."""

from __future__ import annotations

from textwrap import dedent

import pytest

from kvlab.errors import SpecError
from kvlab.spec import NodeSpec, parse_cluster


def nodes_of(text: str) -> tuple[NodeSpec, ...]:
    return parse_cluster(dedent(text)).nodes


def problems_of(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_cluster(dedent(text))
    return [problem.removeprefix("cluster.yaml:") for problem in caught.value.problems]


def test_a_count_takes_any_free_ports():
    assert nodes_of("nodes: 2") == (
        NodeSpec("server1", "127.0.0.1", 0),
        NodeSpec("server2", "127.0.0.1", 0),
    )


def test_a_template_counts_names_and_ports_up():
    text = 'nodes: {count: 3, name: "kv-{i}-a", host: 127.0.0.9, base_port: 65533}'
    assert nodes_of(text) == (
        NodeSpec("kv-1-a", "127.0.0.9", 65533),
        NodeSpec("kv-2-a", "127.0.0.9", 65534),
        NodeSpec("kv-3-a", "127.0.0.9", 65535),
    )


def test_a_template_without_ports_takes_any_free_ones():
    assert nodes_of("nodes: {count: 1, base_port: 0}") == (NodeSpec("server1"),)


def test_a_single_node_may_have_any_name():
    assert nodes_of("nodes: {count: 1, name: solo}") == (NodeSpec("solo"),)


def test_a_list_gives_each_node_what_it_says():
    text = """
        nodes:
          - {id: red, addr: localhost:8081, weight: 2, rack: a}
          - addr: 127.0.0.2:8081
          - {}
          - {id: blue, addr: "LOCALHOST:0", weight: 0.5}
        """
    assert nodes_of(text) == (
        NodeSpec("red", "127.0.0.1", 8081, 2.0, "a"),
        NodeSpec("server2", "127.0.0.2", 8081),
        NodeSpec("server3"),
        NodeSpec("blue", "127.0.0.1", 0, 0.5),
    )


def test_an_address_is_host_and_port():
    assert NodeSpec("a", "127.0.0.1", 8081).addr == "127.0.0.1:8081"


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        (
            "",
            "nodes is empty; write a count, such as nodes: 3, or a list of nodes with id and addr",
        ),
        ("0", "nodes is 0; write a whole number from 1 to 100"),
        ("101", "nodes is 101; write a whole number from 1 to 100"),
        ("five", "nodes is five; write a whole number from 1 to 100"),
        ("[]", "nodes is a list of 0; write from 1 to 100 nodes"),
        ("{}", "nodes.count is missing; write a whole number from 1 to 100"),
        (
            "{count: 2, name: kv}",
            "nodes.name is kv for all 2 nodes; write {i} where the number belongs, such as kv{i}",
        ),
        (
            '{count: 2, name: "kv.{i}"}',
            (
                "nodes.name is kv.{i}; write letters, digits, - and _, at most 40, such as"
                " server{i}, where {i} counts from 1"
            ),
        ),
        (
            "{count: 3, base_port: 65534}",
            (
                "nodes.base_port is 65534, from which 3 ports must fit; write 0 (any free"
                " one) or a port from 1024 to 65533"
            ),
        ),
        (
            "{count: 3, host: 0.0.0.0}",
            (
                "nodes.host is 0.0.0.0, which others can reach; without passwords and TLS nodes"
                " stay on this machine; write localhost or 127.0.0.1"
            ),
        ),
        (
            "[{addr: 'db.example.com:8081'}]",
            (
                "nodes[1].addr is db.example.com:8081, and only loopback addresses can be used for"
                " now; write localhost or 127.0.0.1"
            ),
        ),
        (
            "[{addr: '[::1]:8081'}]",
            (
                "nodes[1].addr is [::1]:8081, and only IPv4 can be used for now;"
                " write localhost or 127.0.0.1"
            ),
        ),
        (
            "[{addr: 8081}]",
            (
                "nodes[1].addr is 8081; write a host and a port, such as localhost:8081"
                " (port 0: any free one)"
            ),
        ),
        (
            "[{addr: 'localhost:80'}]",
            (
                "nodes[1].addr is localhost:80; write port 0 (any free one) or one from 1024"
                " to 65535"
            ),
        ),
        (
            "[{id: Majority}]",
            (
                "nodes[1].id is Majority, a word that selects nodes in commands; write another"
                " name, such as server1"
            ),
        ),
        (
            "[{id: a b}]",
            "nodes[1].id is a b; write letters, digits, - and _, at most 40, such as server1",
        ),
        ("[{weight: 0}]", "nodes[1].weight is 0; write a number from 0.01 to 100"),
        ("[{weight: .inf}]", "nodes[1].weight is .inf; write a number from 0.01 to 100"),
        (
            "[{rack: ''}]",
            (
                "nodes[1].rack is empty; write letters, digits, - and _, at most 40, such as rack1,"
                " or leave it out"
            ),
        ),
        ("[{adr: 'localhost:1'}]", "nodes[1].adr is not a key here; did you mean addr?"),
        (
            "[localhost:8081]",
            'nodes[1] is localhost:8081; write {id: server1, addr: "localhost:8081"}',
        ),
    ],
)
def test_wrong_nodes_are_told_what_to_write(nodes, problem):
    assert problems_of(f"nodes: {nodes}") == [f"1: {problem}"]


def test_a_file_without_nodes_is_told_to_have_some():
    assert problems_of("name: x") == [
        "1: nodes is missing; write a count, such as nodes: 3, or a list of nodes with id and addr"
    ]


def test_ids_and_addresses_are_not_given_twice():
    text = """\
        nodes:
          - {id: a, addr: "localhost:8081"}
          - {id: server3, addr: "localhost:0"}
          - {addr: "127.0.0.1:8081"}
          - {id: a, addr: "localhost:0"}
        """
    assert problems_of(text) == [
        "4: nodes[3].id is server3, as on line 3; give each node its own",
        "4: nodes[3].addr is 127.0.0.1:8081, as on line 2; give each node its own",
        "5: nodes[4].id is a, as on line 2; give each node its own",
    ]
