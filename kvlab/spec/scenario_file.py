"""The text of a scenario file -> ScenarioSpec, all problems at once; and the way back.

It has no defaults (they are the fields of scenario.py), opens no file, and draws nothing. Its lists
are scenario_items.py's, scenario_faults.py's and scenario_phases.py's, the writing is
scenario_text.py's.

Invariant: `parse_scenario(render_scenario(spec)) == spec` for every spec that `parse_scenario`
returns.
"""

from __future__ import annotations

from typing import Final

import yaml

from kvlab.spec.cluster import ReplicationSpec
from kvlab.spec.cluster_file import (
    CLUSTER_KEYS,
    SEED_MAX,
    VERSIONS,
    read_cluster,
    read_name,
    read_ranges,
    read_replication,
)
from kvlab.spec.cluster_nodes import NAME_ADVICE, NODE_COUNT_MAX
from kvlab.spec.document import Problems, compose, is_null, join, line_of, shown, shown_text
from kvlab.spec.scenario import (
    EXPECTATIONS,
    KINDS,
    LEVELS,
    LINEAR_VERBS,
    NAMESPACES,
    SECOND_US,
    SYNCS,
    PhaseSpec,
    ScenarioSpec,
    WorkloadSpec,
    on_cluster,
)
from kvlab.spec.scenario_faults import FAULTS_MAX, read_faults
from kvlab.spec.scenario_items import (
    TIME_US_MAX,
    TIMEOUT_US_MAX,
    TIMEOUT_US_MIN,
    is_node_name,
    read_operations,
)
from kvlab.spec.scenario_phases import read_checks, read_guards, read_phases
from kvlab.spec.scenario_text import render_scenario
from kvlab.spec.section import Section
from kvlab.units import format_duration, parse_size

CHARS_MAX: Final = 8 << 20
"""20,000 operations with all their fields are a third of this."""
NODES_MAX: Final = 550_000
"""20,000 operations of 11 fields and 1,000 faults of 14, each with its key, and some more."""

DRAWN_OPERATIONS_MAX: Final = 1_000_000
CLIENTS_MAX: Final = 1_000
KEYS_MAX: Final = 1_000_000
VALUE_BYTES_MAX: Final = 1 << 20
SHARE_ERROR_MAX: Final = 1e-9
"""How far from 1 the sum of shares may be: 0.1 is not exact in binary."""

_MS: Final = 1_000
_MINUTE: Final = 60 * SECOND_US
SCENARIO_KEYS: Final = (
    *("version", "name", "seed", "nodes", "replication", "ranges", "network", "clocks"),
    *("ns", "sync", "fsync", "dead_after"),
    *("time", "settle", "workload", "operations", "phases", "faults"),
    *("guards", "checks", "expect", "cluster", "folder"),
)
_OF_CLUSTER: Final = (
    *(("nodes", "nodes"), ("replication", "copies"), ("replication", "r"), ("replication", "w")),
    *(("ranges", "ranges"), ("sync", "sync"), ("dead_after", "dead_after_us")),
)
"""Keys, and their fields, that `cluster` answers, too."""
_WORKLOAD_KEYS: Final = (
    *("kind", "operations", "clients", "keys", "for", "timeout", "mix", "value", "level"),
)
_SHARES: Final = ("get", "set", "delete", "cas", "incr", "append")
_DEFAULT: Final = ScenarioSpec()
"""What a file says that says nothing: where each reader below finds its defaults."""


def parse_scenario(text: str, *, source: str = "scenario.yaml") -> ScenarioSpec:
    """Read the text of a scenario file; raise SpecError with every problem, each with its line."""
    problems = Problems(source)
    root = compose(text, problems, chars_max=CHARS_MAX, nodes_max=NODES_MAX)
    if root is None:
        problems.raise_if_any()
    mapping = root if isinstance(root, yaml.MappingNode) else None
    if root is not None and mapping is None:
        said = f"the file is {shown(root)}; write keys and values, such as nodes: 3"
        problems.add(line_of(root), said)
        problems.raise_if_any()
    spec = read_scenario(Section(problems, "", mapping, SCENARIO_KEYS, line=1))
    problems.raise_if_any()
    return spec


def read_scenario(file: Section) -> ScenarioSpec:
    """Read a scenario, at the top of a file or inside another one."""
    file.choice("version", VERSIONS[0], VERSIONS)
    nodes, replication = _nodes_and_copies(file)
    network = file.section("network", ("latency", "jitter"), sample="{latency: 300us}")
    before = len(file.problems.found)
    phases, phase_faults = read_phases(file)
    time_us = _time(file, phases)
    # With a wrong time there is nothing to hold other times against.
    end_us = time_us if len(file.problems.found) == before else TIME_US_MAX
    operations = read_operations(file, end_us)
    ns = file.choice("ns", _DEFAULT.ns, NAMESPACES)
    workload = read_workload(file, "workload", TIME_US_MAX if operations else end_us)
    verbs = {one.verb for one in operations}
    verbs |= workload.verbs
    if ns != "linear" and verbs.intersection(LINEAR_VERBS):
        verb = next(one for one in LINEAR_VERBS if one in verbs)
        complaint = f", but {verb} writes what depends on what is there"
        file.wrong("ns", "write ns: linear", complaint=complaint)
    faults = phase_faults + read_faults(file, end_us)
    if len(faults) > FAULTS_MAX:
        file.wrong("faults", f"write at most {FAULTS_MAX}, those of phases included")
    spec = ScenarioSpec(
        name=read_name(file, _DEFAULT.name),
        seed=file.integer("seed", _DEFAULT.seed, low=0, high=SEED_MAX),
        nodes=nodes,
        copies=replication.n,
        r=replication.r,
        w=replication.w,
        ranges=read_ranges(file, _DEFAULT.ranges),
        ns=ns,
        sync=file.choice("sync", _DEFAULT.sync, SYNCS),
        fsync_us=file.duration("fsync", _DEFAULT.fsync_us, low_us=0, high_us=_MINUTE),
        dead_after_us=file.duration(
            "dead_after", _DEFAULT.dead_after_us, low_us=0, high_us=TIME_US_MAX
        ),
        latency_us=network.duration("latency", _DEFAULT.latency_us, low_us=0, high_us=_MINUTE),
        jitter_us=network.duration("jitter", _DEFAULT.jitter_us, low_us=0, high_us=_MINUTE),
        clocks=_clocks(file),
        # One that operations stand in for is kept, but never runs: any time will do for it.
        workload=workload,
        operations=operations,
        phases=phases,
        faults=faults,
        guards=read_guards(file),
        checks=read_checks(file),
        expect=file.choice("expect", _DEFAULT.expect, EXPECTATIONS),
        time_us=time_us,
        settle_us=file.duration("settle", _DEFAULT.settle_us, low_us=_MS, high_us=TIME_US_MAX),
    )
    return _on_cluster(file, spec)


def _on_cluster(file: Section, spec: ScenarioSpec) -> ScenarioSpec:
    """Read `cluster` and `folder`; what is said of nodes beside them must be the same."""
    if file.get("cluster") is None:
        if file.get("folder") is not None:
            file.wrong("folder", "leave it out: it is for the programs of cluster:")
        return spec
    before = len(file.problems.found)
    cluster = read_cluster(file.section("cluster", CLUSTER_KEYS, sample="{nodes: 3}"))
    folder = (file.text("folder") or "") if file.get("folder") is not None else ""
    if len(file.problems.found) > before:
        return spec
    found = on_cluster(spec, cluster, folder)
    for key, field in _OF_CLUSTER:
        if file.get(key) is not None and getattr(spec, field) != getattr(found, field):
            file.wrong(key, "leave it out", complaint=", but cluster says otherwise")
            break
    return found


def _time(file: Section, phases: tuple[PhaseSpec, ...]) -> int:
    """Read how long all takes: as long as the phases, where there are any."""
    span_us = sum(phase.span_us for phase in phases)
    time_us = file.duration("time", span_us or _DEFAULT.time_us, low_us=_MS, high_us=TIME_US_MAX)
    if phases and time_us != span_us:
        span = format_duration(span_us, exact=True)
        file.wrong("time", f"leave it out, or write {span}", complaint=", but phases say otherwise")
    return time_us


def _nodes_and_copies(file: Section) -> tuple[int, ReplicationSpec]:
    before = len(file.problems.found)
    nodes = file.integer("nodes", _DEFAULT.nodes, low=1, high=NODE_COUNT_MAX)
    default = ReplicationSpec(n=_DEFAULT.copies, r=_DEFAULT.r, w=_DEFAULT.w)
    replication = read_replication(file, default)
    if replication.n > nodes and len(file.problems.found) == before:
        advice = f"write at least {replication.n}, or replication: {{n: {nodes}}}"
        file.wrong("nodes", advice, complaint=f", fewer than the {replication.n} copies of a key")
    return nodes, replication


def _clocks(file: Section) -> dict[str, int]:
    """Read how far each node's clock is off; nodes that are not named have the right time."""
    node = file.get("clocks")
    if node is None or is_null(node):
        return {}
    if not isinstance(node, yaml.MappingNode):
        file.wrong("clocks", "write nodes and offsets, such as {server2: -120ms}")
        return {}
    clocks = {}
    for key, value in node.value:
        name = join("clocks", shown_text(key.value))
        if not is_node_name(key.value):
            said = f"{name} cannot be a node's name; {NAME_ADVICE} server2"
            file.problems.add(line_of(key), said)
        offset_us = file.read_duration(value, name, low_us=-TIME_US_MAX, high_us=TIME_US_MAX)
        clocks[str(key.value)] = offset_us or 0
    return clocks


def read_workload(file: Section, key: str, end_us: int) -> WorkloadSpec:
    """Read a workload at `key` that is to be over at `end_us`."""
    default = _DEFAULT.workload
    section = file.section(key, _WORKLOAD_KEYS, sample="{operations: 1000, for: 20s}")
    kind = section.choice("kind", default.kind, KINDS)
    shares = _mix(section)
    if kind != default.kind and section.get("mix") is not None:
        section.wrong("mix", "leave it out", complaint=f", but {kind} has shares of its own")
    span_us = section.duration("for", min(default.span_us, end_us), low_us=_MS, high_us=TIME_US_MAX)
    if span_us > end_us:
        time = format_duration(end_us, exact=True)
        advice = f"write at most {time}, or a longer time"
        section.wrong("for", advice, complaint=", longer than time")
    value_bytes = section.quantity("value", default.value_bytes, parse_size)
    if not 1 <= value_bytes <= VALUE_BYTES_MAX:
        section.wrong("value", "write a size from 1b to 1mb, such as 16b")
    return WorkloadSpec(
        kind=kind,
        operations=section.integer(
            "operations", default.operations, low=0, high=DRAWN_OPERATIONS_MAX
        ),
        clients=section.integer("clients", default.clients, low=1, high=CLIENTS_MAX),
        keys=section.integer("keys", default.keys, low=1, high=KEYS_MAX),
        span_us=span_us,
        timeout_us=section.duration(
            "timeout", default.timeout_us, low_us=TIMEOUT_US_MIN, high_us=TIMEOUT_US_MAX
        ),
        value_bytes=value_bytes,
        level=section.choice("level", default.level, [level for level in LEVELS if level]),
        **shares,
    )


def _mix(workload: Section) -> dict[str, float]:
    """Read the shares of each verb: those that the file leaves out are 0, all: defaults."""
    sample = "{get: 0.5, set: 0.4, delete: 0.1}"
    mix = workload.section("mix", _SHARES, sample=sample)
    if all(mix.get(share) is None for share in _SHARES):
        return {share: getattr(_DEFAULT.workload, share) for share in _SHARES}
    before = len(mix.problems.found)
    shares = {share: mix.number(share, 0.0, low=0, high=1) for share in _SHARES}
    total = sum(shares.values())
    if abs(total - 1) > SHARE_ERROR_MAX and len(mix.problems.found) == before:
        complaint = f" whose shares add up to {total:g}"
        workload.wrong(
            "mix", f"write shares that add up to 1, such as {sample}", complaint=complaint
        )
    return shares


__all__ = ["parse_scenario", "render_scenario"]
