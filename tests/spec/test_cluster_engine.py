"""`engine` of cluster.yaml: what a command may say, and what a person reads when it is wrong."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from textwrap import dedent

import pytest

from kvlab.errors import SpecError
from kvlab.spec import EngineSpec, parse_cluster
from kvlab.spec.template import PLACEHOLDERS, fill, placeholders_of


def engine_of(text: str, nodes: str = "nodes: 3") -> EngineSpec:
    return parse_cluster(f"{nodes}\n{dedent(text)}").engine


def problems_of(text: str, nodes: str = "nodes: 3") -> list[str]:
    with pytest.raises(SpecError) as caught:
        engine_of(text, nodes)
    return [problem.removeprefix("cluster.yaml:") for problem in caught.value.problems]


def test_without_a_word_it_is_our_own_node():
    assert engine_of("") == engine_of("engine: kvlab") == EngineSpec()
    assert EngineSpec().name == "kvlab"
    assert EngineSpec().to_builtins() == "kvlab"


def test_every_key_arrives_in_its_field():
    found = engine_of("""
        engine:
          command: python3 server.py --id {id} --addr {host}:{port} --say 'two words'
          join: [./server, "--join", "{peers}", "{port}", ""]
          protocol: json
          probe: connect
          knows: [leave, STATUS]
          env: {LOG: debug, ADVERTISE: "{advertise}", EMPTY: , NUMBER: 007}
    """)

    assert found == EngineSpec(
        command=(
            *("python3", "server.py", "--id", "{id}", "--addr", "{host}:{port}"),
            *("--say", "two words"),
        ),
        join=("./server", "--join", "{peers}", "{port}", ""),
        probe="connect",
        knows=("STATUS", "LEAVE"),
        env=(("LOG", "debug"), ("ADVERTISE", "{advertise}"), ("EMPTY", ""), ("NUMBER", "007")),
    )
    assert found.name == "command"


def test_a_server_that_speaks_resp_is_pinged():
    assert engine_of("engine: {command: 'x {port}', protocol: resp}").probe == "ping"


def test_all_problems_of_an_engine_are_told_at_once():
    found = problems_of("""\
        engine:
          command: ./server {host} {prot} {peer}
          join: ./server 'joins
          protocol: http
          probe: look
          knows: [STATUS, MAP]
          envs: {}
          env: {KVLAB_STATE: x, "1A": y, OK: {}, WHERE: "{nosuch}"}
    """)

    assert found == [
        (
            "3: engine.command has {prot}, which is no placeholder; did you mean {port}?"
            " (for braces themselves: {{prot}})"
        ),
        (
            "3: engine.command has {peer}, which is no placeholder; did you mean {peers}?"
            " (for braces themselves: {{peer}})"
        ),
        (
            "3: engine.command is ./server {host} {prot} {peer}, which does not tell the server"
            " its port; write {host}:{port} where it takes its address"
        ),
        (
            '4: engine.join is "./server \'joins", where a quote or a backslash has no end'
            " (no closing quotation); close it, or write a list of words"
        ),
        "5: engine.protocol is http; write json or resp",
        "6: engine.probe is look; write get, ping or connect",
        "7: engine.knows has MAP; write STATUS, LEAVE, CAS, INCR or APPEND",
        "8: engine.envs is not a key here; did you mean env?",
        (
            "9: engine.env.KVLAB_STATE cannot name a variable;"
            " write letters, digits and _, and not KVLAB_ in front"
        ),
        (
            "9: engine.env.1A cannot name a variable;"
            " write letters, digits and _, and not KVLAB_ in front"
        ),
        "9: engine.env.OK is a mapping; write a text",
        "9: engine.env has {nosuch}, which is no placeholder; there are "
        + ", ".join(f"{{{name}}}" for name in PLACEHOLDERS if name != "listen_fd")
        + " (for braces themselves: {{nosuch}})",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "engine: {protocol: json}",
            (
                '2: engine.command is missing; write a command, such as "./server --listen'
                ' {host}:{port} --peers {peers}", or a list of words'
            ),
        ),
        (
            "engine: {command: ''}",
            (
                '2: engine.command is empty; write a command, such as "./server --listen'
                ' {host}:{port} --peers {peers}", or a list of words'
            ),
        ),
        (
            "engine: {command: [./server, {port: 1}, '{port}']}",
            "2: engine.command[2] is a mapping; write a word, in quotes if it has braces",
        ),
        (
            'engine: {command: ["a\\0b", "{port}"]}',
            "2: engine.command has a NUL character; no program can be given one, take it out",
        ),
        (
            "engine: {command: 'x {port}', protocol: resp, knows: [STATUS]}",
            "2: engine.knows is a list, but these are questions in JSON; leave it out",
        ),
        (
            "engine: {command: 'x {port}', join: 'x {peers}'}",
            (
                "2: engine.join is x {peers}, which does not tell the server its port;"
                " write {host}:{port} where it takes its address"
            ),
        ),
        (
            "engine: {command: 'x {port}', env: [A]}",
            "2: engine.env is a list; write names and values, such as env: {LOG_LEVEL: debug}",
        ),
    ],
)
def test_a_problem_says_where_what_and_what_to_write(text, problem):
    assert problems_of(text)[0] == problem


def test_servers_with_fixed_addresses_may_know_them_by_themselves():
    nodes = "nodes: {count: 2, base_port: 9001}"

    assert engine_of("engine: {command: './server {id}'}", nodes).command == ("./server", "{id}")


def test_a_port_may_be_told_through_the_environment():
    assert engine_of("engine: {command: ./server, env: {PORT: '{port}'}}").env


def test_notes_tell_what_servers_by_others_do_not_heed():
    text = "nodes: 3\nreplication: {n: 2}\nranges: 64\nengine: {command: './server {port}'}"

    assert parse_cluster(text).notes == (
        "replication, ranges: only kvlab's own nodes heed this; write it into engine.command",
        "engine.command has no {peers}: the servers are not told of each other",
    )


def test_only_lower_case_words_in_single_braces_are_placeholders():
    template = '{id} {{id}} {} {ID} ${HOME} {"a": 1} {a.b}'

    assert placeholders_of(template) == ("id",)
    assert fill(template, {"id": "n1"}) == 'n1 {id} {} {ID} ${HOME} {"a": 1} {a.b}'


def test_every_key_and_placeholder_is_written_about():
    text = (Path(__file__).parents[2] / "docs/reference/cluster-yaml.md").read_text()
    told = text.partition("## engine")[2]

    assert dict(re.findall(r"^\| `\{(\w+)\}` \| (.*) \|$", told, re.MULTILINE)) == PLACEHOLDERS
    keys = re.findall(r"^\| `(\w+)` \|", told, re.MULTILINE)
    assert keys == [field.name for field in dataclasses.fields(EngineSpec)]
