"""Scenarios that Hypothesis draws: each can be written down as a file."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from kvlab.spec.scenario import (
    BITES,
    EXPECTATIONS,
    FAULT_KINDS,
    LEVELS,
    SYNCS,
    FaultSpec,
    GuardsSpec,
    OperationSpec,
    PhaseSpec,
    ScenarioSpec,
    WorkloadSpec,
)
from kvlab.spec.scenario_faults import CONNECTS, KEYS_OF_KIND, MODES, SHAPES

MS = 1_000
S = 1_000_000
DAY_US = 24 * 3600 * S

PLAIN = "abcXYZ019_-"
names = st.sampled_from(
    ["server1", "server10", "null", "on", "Yes", "1e3", "0x1", "12", "1-2-3", "Z_-9", "n" * 40]
) | st.text(PLAIN, min_size=1, max_size=6).filter(lambda name: name[0] not in "_-")
offsets = st.integers(-DAY_US, DAY_US)
delays = st.just(0) | st.integers(0, 60 * S)
timeouts = st.integers(1, 3600).map(lambda ms: ms * MS) | st.integers(MS, 3600 * S)
texts = st.text(max_size=8) | st.sampled_from(
    ["k1", "", " ", "#", "a: b", "{x}", "null", "\x85", "\\", "-", "\U0001f600", "\xa0x ", "'"]
)
terms = names | st.sampled_from(
    [
        "one",
        "minority",
        "majority",
        "all",
        "not(server1)",
        "not(one, not(a))",
        " all ",
        "each",
        "owner(k1)",
        "coordinator(a:b)",
        "not(replicas({x}y))",
    ]
)
selectors = st.lists(terms, min_size=1, max_size=3).map(",".join)


@st.composite
def operations(draw, time_us):
    verb = draw(st.sampled_from(["get", "set", "delete"]))
    return OperationSpec(
        at_us=draw(st.integers(0, time_us)),
        client=draw(names),
        verb=verb,
        key=draw(texts),
        value=draw(texts) if verb == "set" else "",
        node=draw(st.just("") | names),
        level=draw(st.sampled_from(LEVELS)),
        meta=draw(st.booleans()),
        timeout_us=draw(timeouts),
    )


@st.composite
def faults(draw, time_us):
    kind = draw(st.sampled_from(FAULT_KINDS))
    keys = KEYS_OF_KIND[kind]
    at_us = draw(st.integers(0, time_us))
    sides = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    groups = st.sampled_from([",", " | ", " ,"]).map(lambda mark: mark.join(sides))
    does = {
        "for": ("for_us", st.integers(0, time_us - at_us)),
        "targets": ("targets", names if kind == "join" else selectors),
        "groups": ("groups", groups),
        "from": ("source", st.just("") | selectors),
        "to": ("target", st.just("") | selectors),
        "cut": ("cut", st.booleans()),
        "mode": ("mode", st.sampled_from(MODES)),
        "connect": ("connect", st.sampled_from(CONNECTS)),
        "latency": ("latency_us", st.integers(1, 3600 * S)),
        "bandwidth": ("bandwidth_bps", st.integers(0, 10**12)),
        "by": ("by_us", offsets.filter(bool)),
        "cpu": ("cpu", st.integers(1, 99).map(lambda share: share / 100)),
    }
    if kind == "link":
        does["jitter"] = ("jitter_us", delays)
    if kind == "partition":
        ways = {"groups": groups, "shape": st.sampled_from(SHAPES), "from": selectors}
        way = draw(st.sampled_from([*ways]))
        fields = {"groups": draw(groups)} if way == "groups" else {}
        if way == "shape":
            fields = {"shape": draw(ways["shape"])}
            if fields["shape"] == "isolate":
                fields["targets"] = draw(st.just("") | selectors)
        elif way == "from":
            fields = {"source": draw(selectors), "target": draw(selectors)}
        does = {key: does[key] for key in ("for", "mode")}
    else:
        fields = {}
    fields |= {does[key][0]: draw(does[key][1]) for key in keys if key in does}
    fault = FaultSpec(kind=kind, at_us=at_us, **fields)
    if "every" in keys and (fault.for_us or "for" not in keys) and draw(st.booleans()):
        fault = replace(fault, every_us=draw(st.integers(MS, DAY_US)))
        most = min(1000, fault.times_within(time_us))
        vary_us = draw(st.integers(0, min(fault.every_us, 3600 * S))) if kind != "link" else 0
        fault = replace(fault, times=draw(st.integers(0, most)), vary_us=vary_us)
    return fault


@st.composite
def phases(draw, time_us):
    """Draw stretches that are as long as the whole together, or none."""
    first_us = draw(st.integers(MS, time_us))
    spans = [first_us] if time_us - first_us < MS else [first_us, time_us - first_us]
    if sum(spans) != time_us:
        return ()
    return tuple(PhaseSpec(name=draw(names), span_us=span) for span in spans)


@st.composite
def workloads(draw, span_us):
    get = draw(st.integers(0, 1000))
    put = draw(st.integers(0, 1000 - get))
    return WorkloadSpec(
        operations=draw(st.integers(0, 1_000_000)),
        clients=draw(st.integers(1, 1000)),
        keys=draw(st.integers(1, 1_000_000)),
        span_us=draw(st.integers(MS, span_us)),
        timeout_us=draw(timeouts),
        get=get / 1000,
        set=put / 1000,
        delete=(1000 - get - put) / 1000,
        value_bytes=draw(st.integers(1, 1 << 20)),
    )


@st.composite
def scenarios(draw):
    time_us = draw(st.integers(1, 3600).map(lambda s: s * S) | st.integers(MS, DAY_US))
    nodes = draw(st.integers(1, 100))
    copies = draw(st.integers(1, min(nodes, 16)))
    done = tuple(draw(st.lists(operations(time_us), max_size=2)))
    return ScenarioSpec(
        name=draw(names),
        seed=draw(st.integers(0, 2**63 - 1)),
        nodes=nodes,
        copies=copies,
        r=draw(st.integers(1, copies)),
        w=draw(st.integers(1, copies)),
        ranges=1 << draw(st.integers(4, 12)),
        sync=draw(st.sampled_from(SYNCS)),
        fsync_us=draw(st.integers(0, 60 * S)),
        latency_us=draw(delays),
        jitter_us=draw(delays),
        clocks=draw(st.dictionaries(names, offsets, max_size=3)),
        workload=draw(workloads(DAY_US if done else time_us)),
        operations=done,
        phases=draw(st.just(()) | phases(time_us)),
        faults=tuple(draw(st.lists(faults(time_us), max_size=2))),
        guards=GuardsSpec(
            phase_ok=draw(st.integers(0, 1_000_000)),
            ok_share=draw(st.integers(0, 100)) / 100,
            bite=draw(st.sampled_from(BITES)),
        ),
        checks=tuple(draw(st.lists(names, max_size=3, unique=True))),
        expect=draw(st.sampled_from(EXPECTATIONS)),
        time_us=time_us,
        settle_us=draw(st.integers(MS, DAY_US)),
    )
