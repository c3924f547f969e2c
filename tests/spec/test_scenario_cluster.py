"""A scenario on a cluster of a file of its own: what stands in the fields, and that it can be kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from kvlab.errors import SpecError
from kvlab.spec import parse_cluster
from kvlab.spec.scenario import ScenarioSpec, on_cluster
from kvlab.spec.scenario_file import parse_scenario, render_scenario
from tests.spec.test_cluster import patient, specs

OURS = "nodes: 4\nreplication: {n: 5}\nranges: 64\nstorage: {sync: interval}\n"
OTHERS = "nodes: [{id: left}, {id: right}]\nengine: {command: './server {port}'}\n"


@settings(parent=patient, max_examples=15)
@given(specs)
def test_what_is_written_of_a_scenario_on_a_cluster_reads_back(cluster) -> None:
    spec = on_cluster(ScenarioSpec(), cluster, "/tmp/my folder")
    assert parse_scenario(render_scenario(spec)) == spec


def test_what_a_cluster_says_of_nodes_stands_in_the_fields_of_the_scenario() -> None:
    ours = on_cluster(ScenarioSpec(nodes=9, sync="os"), parse_cluster(OURS))

    assert (ours.nodes, ours.copies, ours.r, ours.ranges, ours.sync) == (4, 4, 3, 64, "interval")
    assert ours.founders == ("server1", "server2", "server3", "server4")
    assert not ours.is_of_others

    others = on_cluster(ScenarioSpec(), parse_cluster(OTHERS))
    assert (others.nodes, others.copies, others.founders) == (2, 2, ("left", "right"))
    assert others.is_of_others
    assert not others.keeps_data
    told = replace(others.cluster.engine, env=(("DATA", "{data}/x"),))
    assert replace(others, cluster=replace(others.cluster, engine=told)).keeps_data


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "cluster: {nodes: 2}\nnodes: 3",
            "2: nodes is 3, but cluster says otherwise; leave it out",
        ),
        ("cluster: {nods: 2}", "1: cluster.nods is no"),
        ("folder: /tmp", "1: folder is /tmp; leave it out: it is for the programs of cluster:"),
    ],
)
def test_a_cluster_that_is_wrong_or_contradicted_is_refused(text, problem) -> None:
    with pytest.raises(SpecError) as caught:
        parse_scenario(text)
    assert caught.value.problems[0].removeprefix("scenario.yaml:").startswith(problem[:30])
