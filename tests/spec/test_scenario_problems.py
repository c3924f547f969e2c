"""Scenario files that are wrong: what a person reads, and what no file can do."""

from __future__ import annotations

from textwrap import dedent
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.errors import SpecError
from kvlab.spec import document
from kvlab.spec.scenario import ScenarioSpec
from kvlab.spec.scenario_faults import FAULT_KEYS, FAULTS_MAX
from kvlab.spec.scenario_file import NODES_MAX, parse_scenario, render_scenario
from kvlab.spec.scenario_items import OPERATION_KEYS, OPERATIONS_MAX

SAMPLE = """\
nodes: 3
clocks: {server2: -120ms}
operations:
  - {at: 1ms, client: c1, do: "set k1 v1", level: quorum}
  - {at: 2ms, client: c2, do: set, key: "my key", value: "\\0"}
faults:
  - {at: 3s, for: 2s, kind: partition, groups: "server1,server2 | server3", mode: reset}
  - {at: 4s, for: 1s, kind: skew, targets: not(server2), by: -80ms}
"""


def problems_of(text: str) -> list[str]:
    """The problems of a text that has some, without the file's name in front."""
    with pytest.raises(SpecError) as caught:
        parse_scenario(dedent(text))
    return [problem.removeprefix("scenario.yaml:") for problem in caught.value.problems]


WRONG = """\
version: 2
name: my scenario
seed: x
nods: 3
replication: {n: 2, r: 3}
ranges: 100
network: {latency: 5, jiter: 1ms}
clocks: {all: 5ms, server2: --5ms, server3: 2000h}
time: 30
settle: 0s
workload: {clients: 0, mix: {get: 0.5, set: 0.4}, value: 16, for: fast}
operations:
  - {at: 1, client: c 1, do: "jump k1", level: two, meta: maybe, timeout: 0ms}
  - {}
  - set k1 v1
faults:
  - {at: -2s, for: 0s, kind: kill, targets: "server1,"}
  - {kind: partition, groups: "server1 | server1", mode: gently}
  - {at: 1s, kind: explode}
  - {at: 1s, kind: link, connect: never, bandwidth: 1mb, cut: 1}
"""
NAME = "write letters, digits, - and _, at most 40, such as"
UNITS = "(units: us, ms, s, m, h)"
SAID = [
    "1: version is 2; write 1",
    f"2: name is my scenario; {NAME} ring5",
    "3: seed is x; write a whole number from 0 to 9223372036854775807",
    "4: nods is not a key here; did you mean nodes?",
    "5: replication.r is 3, more than n; write a whole number from 1 to 2",
    "6: ranges is 100; write a power of two from 16 to 4096, such as 256",
    "7: network.jiter is not a key here; did you mean jitter?",
    f"7: network.latency is 5, which has no unit; write 5ms or 5s {UNITS}",
    f"8: clocks.all cannot be a node's name; {NAME} server2",
    (
        "8: clocks.server2 is --5ms, which is not a duration; write a number and a unit, such as"
        f" 5ms or 2s {UNITS}"
    ),
    "8: clocks.server3 is 2000h; write a duration from -24h to 24h, such as -80ms",
    f"9: time is 30, which has no unit; write 30ms or 30s {UNITS}",
    "10: settle is 0s; write a duration from 1ms to 24h, such as 200ms",
    (
        "11: workload.mix is a mapping whose shares add up to 0.9; write shares that add up to 1,"
        " such as {get: 0.5, set: 0.4, delete: 0.1}"
    ),
    (
        "11: workload.for is fast, which is not a duration; write a number and a unit, such as"
        f" 5ms or 2s {UNITS}"
    ),
    "11: workload.value is 16, which has no unit; write 16kb or 16mb (units: b, kb, mb, gb)",
    "11: workload.clients is 0; write a whole number from 1 to 1000",
    (
        '13: operations[1].do is jump k1; write "get k1", "set k1 v1", "delete k1",'
        ' "cas k1 v2", "incr k1 1" or "append k1 v1", and a text'
        " with spaces or quotes as a field of its own, key: or value:"
    ),
    f"13: operations[1].at is 1, which has no unit; write 1ms or 1s {UNITS}",
    f"13: operations[1].client is c 1; {NAME} c1",
    "13: operations[1].level is two; write available, one, quorum, all or atomic",
    "13: operations[1].meta is maybe; write true or false",
    "13: operations[1].timeout is 0ms; write a duration from 1ms to 1h, such as 200ms",
    (
        '14: operations[2].do is missing; write "get k1", "set k1 v1", "delete k1",'
        ' "cas k1 v2", "incr k1 1" or "append k1 v1", and a text'
        " with spaces or quotes as a field of its own, key: or value:"
    ),
    f"14: operations[2].client is missing; {NAME} c1",
    "14: operations[2].at is missing; write when it begins, such as 2s",
    '15: operations[3] is set k1 v1; write {at: 1ms, client: c1, do: "set k1 v1"}',
    "17: faults[1].at is -2s, which is negative; write a duration of at least 0ms",
    "17: faults[1].for is 0s; write a duration from 1us to 24h, such as 200ms",
    (
        "17: faults[1].targets is server1,; write nodes, such as server1 or server1,server3,"
        " or one, minority, majority, all, each, not(server1), owner(k1) or replicas(k1)"
    ),
    "18: faults[2].at is missing; write when it begins, such as 2s",
    (
        "18: faults[2].groups is server1 | server1; write groups with a bar between, such as"
        ' "server1,server2 | server3"'
    ),
    "18: faults[2].mode is gently; write hold or reset",
    (
        "19: faults[3].kind is explode; write kill, power-cut, stop, wipe, bit-flip, disk-full,"
        " sync-fail, pause, slow, partition, link, reset, skew, join or leave"
    ),
    "20: faults[4].cut is 1; write true or false",
    "20: faults[4].connect is never; write accept, refuse or hang",
    (
        "20: faults[4].bandwidth is 1mb, which has the unit 'mb', which a bandwidth has not; use"
        " bit, kbit, mbit, gbit, b/s, kb/s, mb/s, gb/s"
    ),
]


def test_all_problems_are_reported_at_once_in_the_order_of_the_file():
    assert problems_of(WRONG) == SAID


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "nodes: 2",
            (
                "nodes is 2, fewer than the 3 copies of a key;"
                " write at least 3, or replication: {n: 2}"
            ),
        ),
        (
            "replication: {n: 7}",
            "nodes is missing; write at least 7, or replication: {n: 5}",
        ),
        ("nodes: 101", "nodes is 101; write a whole number from 1 to 100"),
        (
            "workload: {for: 31s}",
            "workload.for is 31s, longer than time; write at most 30s, or a longer time",
        ),
        ("workload: {value: 0b}", "workload.value is 0b; write a size from 1b to 1mb, such as 16b"),
        (
            "clocks: [server1]",
            "clocks is a list; write nodes and offsets, such as {server2: -120ms}",
        ),
        (
            "faults: {kind: kill}",
            (
                "faults is a mapping; write a list, each line of it such as - {at: 2s, for: 1s,"
                " kind: kill, targets: server2}"
            ),
        ),
        (
            "operations: [{at: 31s, client: c1, do: get k}]",
            "operations[1].at is 31s, after time; write at most 30s, or a longer time",
        ),
        (
            "operations: [{at: 1s, client: c1, do: get k v}]",
            (
                'operations[1].do is get k v; write "get k1", "set k1 v1", "delete k1", '
                '"cas k1 v2", "incr k1 1" or "append k1 v1", and a text'
                " with spaces or quotes as a field of its own, key: or value:"
            ),
        ),
        (
            "operations: [{at: 1s, client: c1, do: 'set k \"v\"'}]",
            (
                'operations[1].do is \'set k "v"\'; write "get k1", "set k1 v1", "delete k1",'
                ' "cas k1 v2", "incr k1 1" or "append k1 v1",'
                " and a text with spaces or quotes as a field of its own, key: or value:"
            ),
        ),
        (
            "operations: [{at: 1s, client: c1, do: set k}]",
            "operations[1].value is missing; write it in do, or as value: with quotes around it",
        ),
        (
            "operations: [{at: 1s, client: c1, do: get}]",
            "operations[1].key is missing; write it in do, or as key: with quotes around it",
        ),
        (
            "operations: [{at: 1s, client: c1, do: get k, key: j}]",
            "operations[1].key is j, but do gives a key too; keep one of the two",
        ),
        (
            "operations: [{at: 1s, client: c1, do: delete k, value: v}]",
            "operations[1].value is v, but a delete has no value; leave it out",
        ),
        (
            "operations: [{at: 1s, client: c1, do: get, key: [k]}]",
            "operations[1].key is a list; write a text, with quotes around it",
        ),
        (
            'operations: [{at: 1s, client: c1, do: get, key: "\\ud800"}]',
            (
                "operations[1].key is '\\ud800', half of a surrogate pair in it;"
                " write whole characters"
            ),
        ),
        (
            "operations: [{at: 1s, client: c1, do: get k, node: one}]",
            (
                "operations[1].node is one; write letters, digits, - and _, at most 40,"
                " such as server1"
            ),
        ),
        (
            "faults: [{at: 29s, for: 2s, kind: kill, targets: one}]",
            (
                "faults[1].for is 2s, which ends after time; write at most 1s, or a longer time,"
                " or leave it out: until time is over"
            ),
        ),
        (
            "faults: [{at: 1s, kind: partition}]",
            (
                "faults[1] splits nothing or twice; write groups, or shape (halves, isolate, minority,"
                " bridge or majorities-ring), or from and to"
            ),
        ),
        (
            "faults: [{at: 1s, kind: partition, shape: halves, from: server1, to: server2}]",
            (
                "faults[1] splits nothing or twice; write groups, or shape (halves, isolate, minority,"
                " bridge or majorities-ring), or from and to"
            ),
        ),
        (
            "faults: [{at: 1s, kind: partition, shape: halves, targets: server1}]",
            "faults[1].targets is server1; leave it out, or write shape: isolate",
        ),
        (
            "faults: [{at: 1s, kind: slow, targets: one}]",
            "faults[1].cpu is missing; write the share of a processor that is left, such as 0.2",
        ),
        (
            "faults: [{at: 1s, kind: kill, targets: one, every: 2s}]",
            "faults[1].for is missing; write how long each time lasts, such as 500ms",
        ),
        (
            "faults: [{at: 1s, for: 1s, kind: kill, targets: one, times: 3}]",
            "faults[1].times is 3 of one fault; write every: too, such as every: 2s",
        ),
        (
            "faults: [{at: 1s, for: 1s, kind: kill, targets: one, every: 10s, times: 4}]",
            "faults[1].times is 4; write at most 3, or a longer time",
        ),
        (
            "phases: [{name: a, for: 2s, faults: [{at: 1s, for: 2s, kind: kill, targets: one}]}]",
            (
                "phases[1].faults[1].for is 2s, which ends after phase; write at most 1s, or a longer"
                " phase, or leave it out: until phase is over"
            ),
        ),
        (
            "phases: [{name: a, for: 2s, faults: [{at: 2s, kind: kill, targets: one}]}]",
            "phases[1].faults[1].at is 2s, where the phase ends; write an earlier time",
        ),
        ("phases: [{name: a}]", "phases[1].for is missing; write how long it lasts: 5s"),
        (
            "time: 3s\nphases: [{name: a, for: 2s}]",
            "time is 3s, but phases say otherwise; leave it out, or write 2s",
        ),
        ("guards: {faults: some}", "guards.faults is some; write any, all or none"),
        (
            "checks: lost",
            "checks is lost; write names of kvlab check --list, such as [lost, sessions]",
        ),
        ("expect: broken", "expect is broken; write valid, invalid or any"),
        (
            "faults: [{at: 1s, kind: kill, targets: one, by: 5ms}]",
            (
                "faults[1].by is 5ms, but kill has no by; leave it out"
                " (it has at, for, every, times, jitter, kind, targets)"
            ),
        ),
        (
            "faults: [{at: 1s, for: 1s, kind: leave, targets: one}]",
            "faults[1].for is 1s, but leave has no for; leave it out (it has at, kind, targets)",
        ),
        (
            "faults: [{at: 1s, kind: kill, target: one}]",
            "faults[1].target is not a key here; did you mean targets?",
        ),
        (
            "faults: [{at: 1s, kind: skew, targets: one}]",
            "faults[1].by is missing; write how far the clock steps, such as -80ms",
        ),
        (
            "faults: [{at: 1s, kind: skew, targets: one, by: 0ms}]",
            "faults[1].by is 0ms; write how far the clock steps, such as -80ms",
        ),
        (
            "faults: [{at: 1s, kind: join, targets: 'server6,server7'}]",
            "faults[1].targets is server6,server7; write one new name, such as server6",
        ),
        (
            "faults: [{at: 1s, kind: link, to: one, mode: reset, cut: false}]",
            "faults[1] changes nothing; write what the link does, such as latency: 50ms",
        ),
    ],
)
def test_a_problem_says_where_what_and_what_to_write(line, problem):
    found = problems_of(f"seed: 3\n{line}\n")
    # An unknown key leaves what it meant missing; that is said too.
    assert [one.split(": ", 1)[1] for one in found if "targets is missing" not in one] == [problem]
    assert all(one.startswith(("1: ", "2: ")) for one in found)


@pytest.mark.parametrize(
    "text",
    [
        "not(one",
        "one)",
        "not()",
        "a b",
        "a,,b",
        "",
        ",",
        "not(a)b",
        "owner()",
        "owner(k,l)",
        "owner(one(k))",
        "a|b",
        "x" * 41,
        "not(" * 9 + "a" + ")" * 9,
    ],
)
def test_what_cannot_select_nodes_is_refused(text):
    found = problems_of(f"faults: [{{at: 1s, kind: kill, targets: '{text}'}}]")
    assert len(found) == 1
    assert "faults[1].targets is " in found[0]


@pytest.mark.parametrize(
    "text", ["a", " a , not( b,not(one) ) ,all", "none-such", "not", "not(" * 8 + "a" + ")" * 8]
)
def test_what_could_select_nodes_is_left_to_who_knows_them(text):
    fault = parse_scenario(f"faults: [{{at: 1s, kind: kill, targets: '{text}'}}]").faults[0]
    assert fault.targets == text


def test_as_many_operations_as_a_file_may_have_are_read():
    line = "- {at: 1ms, client: c1, do: get k}\n"
    assert len(parse_scenario("operations:\n" + line * OPERATIONS_MAX).operations) == 20_000


def test_the_limit_on_values_is_beyond_the_limits_on_lists():
    operations = OPERATIONS_MAX * (1 + 2 * len(OPERATION_KEYS))
    assert operations + FAULTS_MAX * (1 + 2 * len(FAULT_KEYS)) + 1_000 <= NODES_MAX


@pytest.mark.parametrize(("key", "most"), [("operations", 20_000), ("faults", 1_000)])
def test_longer_lists_are_refused(key, most):
    found = problems_of(f"{key}: [{'{},  ' * (most + 1)}]")
    assert found == [f"1: {key} is a list of {most + 1}; write at most {most}"]


def test_a_long_file_that_is_wrong_is_told_the_line():
    text = render_scenario(ScenarioSpec(), comment="long\n" * 20_000)
    assert problems_of(text + "time: ]")[0].startswith("20005: this is not YAML: ")
    assert problems_of(text + "time: \x00") == [
        "20005: character 0x0 is not allowed in YAML; remove it"
    ]


@given(
    st.integers(0, len(SAMPLE) - 1),
    st.integers(0, 30),
    st.sampled_from(["", " ", "\n", "\t", ":", "- ", "[", "}", "'", "&a", "-3", "x", "\\", "\x07"]),
    st.sampled_from([0, document.TEXT_CHARS_MAX]),
)
def test_a_damaged_file_is_a_spec_or_problems_that_say_where(start, length, text, fast_from):
    damaged = SAMPLE[:start] + text + SAMPLE[start + length :]
    try:
        with mock.patch.object(document, "FAST_CHARS_MIN", fast_from):
            spec = parse_scenario(damaged)
    except SpecError as error:
        lines = [int(one.split(":")[1]) for one in error.problems]
        assert all(1 <= line <= len(damaged.splitlines()) + 1 for line in lines)
    else:
        assert parse_scenario(render_scenario(spec)) == spec
