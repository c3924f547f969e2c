"""The pytest plugin: real clusters and their faults as fixtures, for tests of one's own programs.

It is registered by the installation; nothing needs to be imported. What a cluster can do is
`cluster.Cluster`'s, the faults are `faults`'; here is only what pytest has to know.

    def test_my_client_survives_a_dead_node(kvlab_cluster):
        mine = MyClient(kvlab_cluster.addresses)
        mine.set("k", "v")
        kvlab_cluster.kill("server2")
        assert mine.get("k") == "v"

Invariant: a test is given a cluster that no fault and no data of another test has touched. Whatever a
test leaves, its nodes end with the session at the latest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kvlab.pytest_plugin.cluster import Cluster, Pool
    from kvlab.pytest_plugin.faults import Fault

MARKERS = (
    "kvlab(**keys): the cluster of a test, as keys of cluster.yaml, such as nodes=5",
    "fault_matrix(*names): run a test once with each of these faults; without names, with all",
)


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest our markers."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes a fault once with each."""
    if "kvlab_fault" not in metafunc.fixturenames:
        return
    from kvlab.errors import UsageError
    from kvlab.pytest_plugin.faults import FAULTS

    marker = metafunc.definition.get_closest_marker("fault_matrix")
    names = marker.args if marker is not None and marker.args else tuple(FAULTS)
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        raise UsageError(f"no fault is called {unknown[0]!r}; there are {', '.join(FAULTS)}")
    metafunc.parametrize("kvlab_fault", names, indirect=True)


@pytest.fixture(scope="session")
def _kvlab_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    from kvlab.pytest_plugin.cluster import Pool

    pool = Pool(lambda: tmp_path_factory.mktemp("kvlab"))
    yield pool
    pool.close()


@pytest.fixture
def kvlab_cluster(request: pytest.FixtureRequest, _kvlab_pool: Pool) -> Iterator[Cluster]:
    """A running cluster of real servers, empty and whole; three nodes unless marked otherwise."""
    marker = request.node.get_closest_marker("kvlab")
    keys: dict[str, Any] = {"nodes": 3} | (dict(marker.kwargs) if marker is not None else {})
    cluster = _kvlab_pool.take(keys)
    yield cluster
    _kvlab_pool.give_back(cluster)


@pytest.fixture
def kvlab_fault(request: pytest.FixtureRequest, kvlab_cluster: Cluster) -> Fault:
    """A fault of the cluster, to be begun and ended: `with kvlab_fault: ...`."""
    from kvlab.pytest_plugin.faults import FAULTS, Fault

    return Fault(request.param, FAULTS[request.param], kvlab_cluster)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show with a failed test what its nodes said, and where the rest is."""
    outcome: Any = yield
    report = outcome.get_result()
    cluster = getattr(item, "funcargs", {}).get("kvlab_cluster")
    if cluster is not None and report.failed and report.when == "call":
        report.sections.append(("kvlab cluster", cluster.story()))
