"""The pytest plugin, used as its users do: in a test session of its own, with real nodes."""

from __future__ import annotations

import os

import pytest

pytest_plugins = "pytester"
pytestmark = pytest.mark.live


@pytest.fixture
def session(pytester: pytest.Pytester) -> pytest.Pytester:
    # The entry point of an installation that may be older than this tree is not asked for.
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    return pytester


def _run(session: pytest.Pytester, text: str, *arguments: str) -> pytest.RunResult:
    session.makepyfile(text)
    plugin = () if _is_installed() else ("-p", "kvlab.pytest_plugin")
    return session.runpytest_subprocess(*plugin, "-v", *arguments, timeout=100)


def _is_installed() -> bool:
    from importlib.metadata import entry_points

    return any(one.name == "kvlab" for one in entry_points(group="pytest11"))


def test_a_client_is_tested_against_each_fault(session: pytest.Pytester) -> None:
    result = _run(
        session,
        """
        import pytest

        @pytest.mark.fault_matrix("none", "kill", "pause", "partition", "one-way", "slow", "restart")
        def test_a_written_key_stays(kvlab_cluster, kvlab_fault):
            mine = kvlab_cluster.client("server1", timeout=5)
            mine.set("k", "before")
            with kvlab_fault:
                if kvlab_fault.name != "restart":
                    assert mine.get("k") == "before"
                    mine.set("k", "during")
            assert kvlab_cluster.client("server2").get("k", level="all") in ("before", "during")
        """,
    )

    result.assert_outcomes(passed=7)
    assert _nodes_of(session) == []


def test_a_cluster_serves_the_next_test_only_if_it_was_left_as_it_was(
    session: pytest.Pytester,
) -> None:
    result = _run(
        session,
        """
        import pytest

        seen = []

        def test_looks_only(kvlab_cluster):
            seen.append(kvlab_cluster.directory)
            assert kvlab_cluster.nodes == ["server1", "server2", "server3"]
            assert len(kvlab_cluster.addresses) == 3

        def test_gets_the_same_and_writes(kvlab_cluster):
            assert kvlab_cluster.directory == seen[0]
            kvlab_cluster.client().set("k", "v")

        def test_gets_another_and_breaks_it(kvlab_cluster):
            assert kvlab_cluster.directory != seen[0]
            assert kvlab_cluster.client().get("k") is None
            seen.append(kvlab_cluster.directory)
            kvlab_cluster.kill("server2")

        @pytest.mark.kvlab(nodes=2, replication={"n": 1}, network={"shims": False})
        def test_gets_what_it_asks_for(kvlab_cluster):
            assert kvlab_cluster.directory not in seen
            assert kvlab_cluster.nodes == ["server1", "server2"]
            assert kvlab_cluster.add() == "server3"
            kvlab_cluster.remove("server3")
            kvlab_cluster.wait_whole()
        """,
    )

    result.assert_outcomes(passed=4)


def test_a_failed_test_shows_what_the_nodes_said(session: pytest.Pytester) -> None:
    result = _run(
        session,
        """
        import pytest

        seen = []

        @pytest.mark.parametrize("text", ["a/b"])
        @pytest.mark.kvlab(nodes=2, replication={"n": 1})
        def test_fails(kvlab_cluster, text):
            seen.append(kvlab_cluster.directory)
            assert kvlab_cluster.client().get("k") == "v"

        @pytest.mark.kvlab(nodes=2, replication={"n": 1})
        def test_gets_another(kvlab_cluster):
            assert kvlab_cluster.directory not in seen
        """,
        *("--kvlab-artifacts", "kept"),
    )

    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        ["*kvlab cluster*", "files: *kept/*", "server1 (running):", "*serving at*"]
    )
    (kept,) = (session.path / "kept").iterdir()
    assert "test_fails-a-b-" in kept.name
    assert "serving at" in (kept / "nodes" / "server2" / "log").read_text()
    assert "start" in (kept / "events.jsonl").read_text()


def test_a_matrix_has_faults_of_ones_own_nodes_by_name_and_clusters(
    session: pytest.Pytester,
) -> None:
    result = _run(
        session,
        """
        from contextlib import contextmanager

        import pytest

        @contextmanager
        def slow_first_link(cluster):
            cluster.link("server1", "server2", latency_ms=20)
            yield
            cluster.heal()

        seen = set()

        @pytest.mark.fault_matrix("pause server1", slow_first_link, nodes=[2, 3])
        @pytest.mark.kvlab(replication={"n": 1})
        def test_it(kvlab_cluster, kvlab_fault):
            with kvlab_fault:
                states = [node["state"] for node in kvlab_cluster.status()]
            assert ("paused" in states) == (kvlab_fault.name == "pause server1")
            assert not states.index("paused") if "paused" in states else True
            seen.add((kvlab_fault.name, len(kvlab_cluster.nodes)))

        def test_all_were():
            assert seen == {(name, n) for name in ("pause server1", "slow_first_link") for n in (2, 3)}
        """,
    )

    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["*test_it*pause server1*", "*test_it*slow_first_link*"])


def test_an_async_test_may_use_it_too(session: pytest.Pytester) -> None:
    result = _run(
        session,
        """
        import asyncio

        from kvlab.live.client import Client

        def test_async(kvlab_cluster):
            async def scene():
                async with Client(kvlab_cluster.addresses) as client:
                    await client.set("k", "v")
                    kvlab_cluster.kill("server1")  # blocks this loop, not the laboratory's
                    assert await client.get("k") == "v"

            asyncio.run(scene())
        """,
    )

    result.assert_outcomes(passed=1)


def test_wrong_markers_say_what_to_write(session: pytest.Pytester) -> None:
    wrong = {
        "@pytest.mark.kvlab(nodes=0)\ndef test_it(kvlab_cluster): pass": (
            "*@pytest.mark.kvlab*nodes is 0; write a whole number from 1 to 100*"
        ),
        '@pytest.mark.fault_matrix("fire")\ndef test_it(kvlab_cluster, kvlab_fault): pass': (
            "*no fault is called 'fire'; there are none, kill, pause,*"
        ),
        '@pytest.mark.fault_matrix("kill")\ndef test_it(kvlab_cluster): pass': (
            "*test_it has a fault_matrix, but takes no kvlab_fault*"
        ),
        "@pytest.mark.fault_matrix(nodes=3)\ndef test_it(kvlab_fault): pass": (
            "*fault_matrix(nodes=3): write a list, such as [[]3[]]*"
        ),
        '@pytest.mark.fault_matrix("kill server9")\ndef test_it(kvlab_fault): pass': (
            "*no node is called 'server9'; there are server1, server2, server3*"
        ),
    }
    files = {f"test_{number}": f"import pytest\n\n{text}\n" for number, text in enumerate(wrong)}
    session.makepyfile(**files)
    result = _run(session, "", "--continue-on-collection-errors")

    result.assert_outcomes(errors=len(wrong))
    for said in wrong.values():
        result.stdout.fnmatch_lines([said])


def _nodes_of(session: pytest.Pytester) -> list[int]:
    """Return the processes that the session's clusters have left."""
    from kvlab.lab.reap import find_processes

    folder = str(session.path)
    return [one.pid for one in find_processes() if folder in one.state and one.pid != os.getpid()]


def test_a_server_of_ones_own_is_tested_like_ours(session: pytest.Pytester) -> None:
    result = _run(
        session,
        """
        import pytest

        COMMAND = "{python} -m kvlab.examples.server --id {id} --addr {host}:{port}"

        @pytest.mark.kvlab(engine={"command": COMMAND + " --peers {peers} --data {data}"})
        @pytest.mark.fault_matrix("partition", "none")
        def test_a_written_key_stays(kvlab_cluster, kvlab_fault):
            mine = kvlab_cluster.client("server1", timeout=5)
            assert mine.get("k") is None, "a cluster of its own for each test"
            with kvlab_fault:
                mine.set("k", "during")
            assert kvlab_cluster.client("server3").get("k") == "during"
        """,
        *("-n", "2"),  # each worker of pytest-xdist has clusters of its own
    )

    result.assert_outcomes(passed=2)
    assert _nodes_of(session) == []
