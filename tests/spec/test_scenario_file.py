"""Scenario files: what each line means, and that what is written reads back."""

from __future__ import annotations

from dataclasses import replace
from textwrap import dedent
from unittest import mock

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvlab.spec import document
from kvlab.spec.scenario import (
    FaultSpec,
    GuardsSpec,
    OperationSpec,
    PhaseSpec,
    ScenarioSpec,
    WorkloadSpec,
)
from kvlab.spec.scenario_file import parse_scenario, render_scenario
from tests.spec.scenario_draws import DAY_US, MS, S, scenarios

# A scenario is drawn in many steps; on a busy machine that is slow, and no fault.
SLOW = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

FULL = """\
# found by seed 4711
version: 1
name: shrunk-4711
seed: 4711
nodes: 6
replication: {n: 5, r: 1, w: 4}
ranges: 64
sync: interval
fsync: 5ms
dead_after: 90s
network: {latency: 1ms, jitter: 0ms}
clocks: {server2: -120ms, server10: 5us}
time: 10s
settle: 1m
workload: {operations: 50, clients: 2, keys: 3, for: 9s, timeout: 1500ms, value: 1kb, mix: {get: 0.75, set: 0.25}}
operations:
  - {at: 1ms, client: c1, do: "set k1 v1", node: server1, level: quorum, meta: true, timeout: 3s}
  - {at: 2ms, client: c2, do: set, key: "my key", value: ""}
  - {at: 3ms, client: c2, do: "set k1", value: "two\\nlines \\"quoted\\" \\0"}
  - {at: 4ms, client: c1, do: "get k1"}
  - {at: 10s, client: c1, do: delete, key: "it's"}
faults:
  - {at: 0ms, kind: kill, targets: all}
  - {at: 2s, for: 8s, kind: power-cut, targets: "not(one, server2)"}
  - {at: 2s, for: 1us, kind: pause, targets: minority}
  - {at: 3s, for: 2s, kind: partition, groups: "server1,server2 | server3", mode: reset}
  - {at: 3s, for: 2s, kind: link, from: server1, to: "server2,server3", cut: true, mode: reset, connect: hang, latency: 50ms, jitter: 10ms, bandwidth: 1mbit}
  - {at: 4s, kind: reset, from: server1, to: all}
  - {at: 4s, for: 1s, kind: skew, targets: server2, by: -80ms}
  - {at: 4s, kind: join, targets: server6}
  - {at: 5s, kind: leave, targets: server1}
"""  # noqa: E501 - a fault is never spread over lines
FULL_SPEC = ScenarioSpec(
    name="shrunk-4711",
    seed=4711,
    nodes=6,
    copies=5,
    r=1,
    w=4,
    ranges=64,
    sync="interval",
    fsync_us=5 * MS,
    dead_after_us=90 * S,
    latency_us=MS,
    jitter_us=0,
    clocks={"server2": -120 * MS, "server10": 5},
    time_us=10 * S,
    settle_us=60 * S,
    workload=WorkloadSpec(
        operations=50,
        clients=2,
        keys=3,
        span_us=9 * S,
        timeout_us=1500 * MS,
        get=0.75,
        set=0.25,
        delete=0.0,
        value_bytes=1024,
    ),
    operations=(
        OperationSpec(
            at_us=MS,
            client="c1",
            verb="set",
            key="k1",
            value="v1",
            node="server1",
            level="quorum",
            meta=True,
            timeout_us=3 * S,
        ),
        OperationSpec(at_us=2 * MS, client="c2", verb="set", key="my key"),
        OperationSpec(
            at_us=3 * MS, client="c2", verb="set", key="k1", value='two\nlines "quoted" \0'
        ),
        OperationSpec(at_us=4 * MS, client="c1", verb="get", key="k1"),
        OperationSpec(at_us=10 * S, client="c1", verb="delete", key="it's"),
    ),
    faults=(
        FaultSpec(kind="kill", at_us=0, targets="all"),
        FaultSpec(kind="power-cut", at_us=2 * S, for_us=8 * S, targets="not(one, server2)"),
        FaultSpec(kind="pause", at_us=2 * S, for_us=1, targets="minority"),
        FaultSpec(
            kind="partition",
            at_us=3 * S,
            for_us=2 * S,
            groups="server1,server2 | server3",
            mode="reset",
        ),
        FaultSpec(
            kind="link",
            at_us=3 * S,
            for_us=2 * S,
            source="server1",
            target="server2,server3",
            cut=True,
            mode="reset",
            connect="hang",
            latency_us=50 * MS,
            jitter_us=10 * MS,
            bandwidth_bps=125_000,
        ),
        FaultSpec(kind="reset", at_us=4 * S, source="server1", target="all"),
        FaultSpec(kind="skew", at_us=4 * S, for_us=S, targets="server2", by_us=-80 * MS),
        FaultSpec(kind="join", at_us=4 * S, targets="server6"),
        FaultSpec(kind="leave", at_us=5 * S, targets="server1"),
    ),
)


def test_every_key_arrives_in_its_field():
    assert parse_scenario(FULL) == FULL_SPEC


def test_a_scenario_is_printed_as_a_person_would_write_it():
    assert render_scenario(FULL_SPEC, comment="found by seed 4711") == FULL


def test_a_file_that_says_nothing_means_the_defaults_and_those_are_not_printed():
    assert parse_scenario("version: 1") == ScenarioSpec()
    assert render_scenario(ScenarioSpec()) == "version: 1\nname: scenario\nseed: 1\nnodes: 5\n"


def test_sections_whose_lines_are_all_commented_out_mean_the_defaults():
    keys = ("replication", "network", "clocks", "workload", "operations", "faults")
    text = "".join(f"{key}:\n#  x\n" for key in keys)
    assert parse_scenario(text) == ScenarioSpec()
    assert parse_scenario("workload: {mix: {}}\nclocks: {}") == ScenarioSpec()


def test_the_short_forms_that_people_type_are_understood():
    text = """
        clocks:
          server2: +80ms
        replication: {n: 5}
        workload: {mix: {get: 1}}
        operations:
          - {at: 1ms, client: c1, do: SET 5 on}
          - {at: 1ms, client: c1, do: set k, value: null}
          - {at: 1ms, client: c1, do: set k, value: }
          - {at: 1ms, client: c1, do: Get, key: 5}
        """
    spec = parse_scenario(dedent(text))
    assert spec.clocks == {"server2": 80 * MS}
    assert (spec.copies, spec.r, spec.w) == (5, 3, 3)
    assert (spec.workload.get, spec.workload.set, spec.workload.delete) == (1, 0, 0)
    done = [(one.verb, one.key, one.value) for one in spec.operations]
    assert done == [("set", "5", "on"), ("set", "k", "null"), ("set", "k", ""), ("get", "5", "")]


def test_faults_of_phases_count_from_their_beginning_and_end_with_them():
    text = """
        phases:
          - {name: calm, for: 2s}
          - name: trouble
            for: 4s
            faults:
              - {at: 1s, kind: pause, targets: one}
              - {at: 0s, for: 500ms, every: 1s, jitter: 100ms, kind: kill, targets: each}
              - {at: 3s, kind: reset, from: server1, to: all}
        faults:
          - {at: 1s, kind: slow, targets: all, cpu: 0.5}
        guards: {phase_ok: 3, faults: all}
        checks: [lost, sessions]
        expect: any
        """
    spec = parse_scenario(dedent(text))
    assert spec.phases == (
        PhaseSpec(name="calm", span_us=2 * S),
        PhaseSpec(name="trouble", span_us=4 * S),
    )
    assert (spec.time_us, spec.workload.span_us) == (6 * S, 6 * S)
    assert spec.faults == (
        FaultSpec(kind="pause", at_us=3 * S, for_us=3 * S, targets="one"),
        FaultSpec(
            kind="kill",
            at_us=2 * S,
            for_us=S // 2,
            every_us=S,
            times=4,
            vary_us=100 * MS,
            targets="each",
        ),
        FaultSpec(kind="reset", at_us=5 * S, source="server1", target="all"),
        FaultSpec(kind="slow", at_us=S, targets="all", cpu=0.5),
    )
    assert spec.guards == GuardsSpec(phase_ok=3, bite="all")
    assert (spec.checks, spec.expect) == (("lost", "sessions"), "any")
    assert parse_scenario(render_scenario(spec)) == spec


def test_a_comment_has_as_many_lines_as_it_likes_and_stays_one():
    text = render_scenario(FULL_SPEC, comment="lost: k1\n\nseed: 3\rnodes: 1\u2028\x00name: x")
    assert text.startswith("# lost: k1\n#\n# seed: 3\n# nodes: 1\n#  name: x\nversion: 1\n")
    assert parse_scenario(text) == FULL_SPEC


def test_many_clocks_have_a_line_each_in_the_order_of_the_names():
    clocks = {f"server{number}": -number for number in range(12, 0, -1)}
    lines = render_scenario(ScenarioSpec(nodes=12, clocks=clocks)).splitlines()
    assert lines[4:7] == ["clocks:", "  server1: -1us", "  server2: -2us"]
    assert lines[-1] == "  server12: -12us"


def test_a_workload_that_operations_stand_in_for_may_be_of_any_length():
    spec = replace(FULL_SPEC, time_us=10 * S, workload=WorkloadSpec(span_us=DAY_US))
    assert parse_scenario(render_scenario(spec)) == spec


@SLOW
@given(scenarios(), st.text(max_size=20))
def test_what_is_written_reads_back_with_either_parser(spec, comment):
    text = render_scenario(spec, comment=comment)
    assert parse_scenario(text) == spec
    with mock.patch.object(document, "FAST_CHARS_MIN", 0):
        assert parse_scenario(text) == spec


@SLOW
@given(scenarios())
def test_other_readers_of_yaml_find_the_same_texts(spec):
    read = yaml.safe_load(render_scenario(spec))
    assert read["name"] == spec.name
    assert list(read.get("clocks", {})) == sorted(spec.clocks, key=lambda one: (len(one), one))
    for given_, found in zip(spec.operations, read.get("operations", []), strict=True):
        assert found["client"] == given_.client
        words = [*found["do"].split(" "), *(found[one] for one in ("key", "value") if one in found)]
        value = [given_.value] if given_.verb == "set" else []
        assert words == [given_.verb, given_.key, *value]
