"""The pytest plugin: real clusters and their faults as fixtures, for tests of one's own programs.

It is registered by the installation; nothing needs to be imported. What a cluster can do is
`cluster.Cluster`'s, the faults are `faults`'; here is only what pytest has to know.

    def test_my_client_survives_a_dead_node(kvlab_cluster):
        mine = MyClient(kvlab_cluster.addresses)
        mine.set("k", "v")
        kvlab_cluster.kill("server2")
        assert mine.get("k") == "v"

Invariants:

1. A test is given a cluster that no fault and no data of another test has touched.
2. Whatever a test leaves, its nodes end with the session at the latest.
3. The cluster of a failed test is given to no other: its logs and data stay as they were.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kvlab.pytest_plugin.cluster import Cluster, Pool
    from kvlab.pytest_plugin.faults import Fault

MARKERS = (
    "kvlab(**keys): the cluster of a test, as keys of cluster.yaml, such as nodes=5",
    "fault_matrix(*faults, **keys): run a test once with each fault, on each cluster of nodes=[3, 5]",
)
ARTIFACTS = "--kvlab-artifacts"
FOLDER_CHARS_MAX = 150


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tell pytest our options."""
    parser.getgroup("kvlab").addoption(
        ARTIFACTS,
        metavar="DIR",
        default=None,
        help="keep logs and data of the clusters of failed tests in DIR/TEST",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest our markers."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes a fault once with each, on each kind of cluster."""
    marker = metafunc.definition.get_closest_marker("fault_matrix")
    takes = "kvlab_fault" in metafunc.fixturenames
    if marker is None and not takes:
        return
    from kvlab.errors import UsageError
    from kvlab.pytest_plugin.faults import FAULTS, check_fault, name_of

    if not takes:
        name = metafunc.function.__name__
        raise UsageError(f"{name} has a fault_matrix, but takes no kvlab_fault")
    faults = marker.args if marker is not None and marker.args else tuple(FAULTS)
    for one in faults:
        check_fault(one)
    metafunc.parametrize("kvlab_fault", faults, ids=map(name_of, faults), indirect=True)
    for key, values in (marker.kwargs if marker is not None else {}).items():
        if not isinstance(values, list | tuple):
            raise UsageError(f"fault_matrix({key}={values!r}): write a list, such as [{values!r}]")
    if marker is not None and marker.kwargs:
        clusters = _clusters(marker.kwargs)
        metafunc.parametrize("kvlab_cluster", clusters.values(), ids=clusters, indirect=True)


def _clusters(axes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each combination of keys of cluster.yaml, by a name for it."""
    found: dict[str, dict[str, Any]] = {"": {}}
    for key, values in axes.items():
        found = {
            f"{name}-{key}{value if isinstance(value, int | str) else number}": keys | {key: value}
            for name, keys in found.items()
            for number, value in enumerate(values)
        }
    return {name.removeprefix("-"): keys for name, keys in found.items()}


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
    cluster = _kvlab_pool.take(keys | getattr(request, "param", {}))
    artifacts = request.config.getoption(ARTIFACTS)
    if artifacts is not None:
        cluster.kept = (
            request.config.invocation_params.dir / artifacts / _folder(request.node.nodeid)
        )
    yield cluster
    _kvlab_pool.give_back(cluster)


def _folder(test: str) -> str:
    """Return a folder's name for a test, another one for each."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", test).strip("-")
    return f"{plain[:FOLDER_CHARS_MAX]}-{zlib.crc32(test.encode()):08x}"


@pytest.fixture
def kvlab_fault(request: pytest.FixtureRequest, kvlab_cluster: Cluster) -> Fault:
    """A fault of the cluster, to be begun and ended: `with kvlab_fault: ...`."""
    from kvlab.pytest_plugin.faults import Fault

    return Fault(request.param, kvlab_cluster)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show with a failed test what its nodes said, and where the rest is kept."""
    outcome: Any = yield
    report = outcome.get_result()
    cluster = getattr(item, "funcargs", {}).get("kvlab_cluster")
    if cluster is not None and report.failed and report.when != "teardown":
        cluster.has_failed = True
        report.sections.append(("kvlab cluster", cluster.story()))
