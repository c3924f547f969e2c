"""Real clients of Redis against real nodes: redis-py, redis-cli, redis-benchmark."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from .node_process import Cluster, NodeProcess, nodes, until

pytestmark = pytest.mark.live

SECONDS_MAX = 60


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with nodes(tmp_path) as running:
        yield running


@pytest.fixture
def node(cluster: Cluster) -> Iterator[NodeProcess]:
    one = cluster.start("server1").wait_ready()
    yield one
    assert "Traceback" not in one.log, one.log


def client_of(node: NodeProcess, **options) -> redis.Redis:
    return redis.Redis("127.0.0.1", node.port, socket_timeout=SECONDS_MAX, **options)


def run(*argv: str) -> str:
    """Run a program that must succeed; return what it printed."""
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("options", [{}, {"protocol": 2}, {"protocol": 3}], ids=str)
def test_the_client_for_python(node: NodeProcess, options: dict) -> None:
    with client_of(node, client_name="me", db=0, **options) as client:
        assert client.ping()
        for value in (b"v", b"\x00\xff\r\n", b"x" * 1_000_000):
            assert client.set("k", value) is True
            assert client.get("k") == value
        assert client.get("none") is None
        assert client.mset({"a": 1, "b": "ä"})
        assert client.mget("a", "b", "none") == [b"1", "ä".encode(), None]
        assert client.exists("a", "b", "none") == 2
        assert client.delete("a", "none") == 1
        assert (client.strlen("b"), client.type("b")) == (2, b"string")
        assert client.dbsize() == 2
        assert client.flushdb() is True
        assert (client.dbsize(), client.get("k")) == (0, None)
        assert client.flushall(asynchronous=True) is True
        assert client.info()["kvlab_node"] == "server1"
        assert client.config_get("save") == {"save": ""}
        assert client.client_getname() in ("me", b"me")
        assert client.command()["get"]["arity"] == 2
        assert client.cluster("keyslot", "a") == 15495
        assert client.time()[0] > 0


def test_what_is_refused_raises(node: NodeProcess) -> None:
    with client_of(node) as client:
        client.set("k", "1")
        for call in (
            lambda: client.incr("k"),
            lambda: client.set("k", "2", nx=True),
            lambda: client.set("k", "2", keepttl=True),
            lambda: client.expire("k", 1),
            lambda: client.eval("return 1", 0),
            lambda: client.pipeline().set("k", "2").execute(),
            lambda: client.execute_command("SELECT", 2),
        ):
            with pytest.raises(redis.ResponseError):
                call()
        assert client.get("k") == b"1"
    with client_of(node, password="secret") as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_what_reads_and_writes_in_one_step_is_done_in_the_linear_namespace(
    node: NodeProcess,
) -> None:
    with client_of(node, db=1) as client:
        assert client.set("k", "1", nx=True) is True
        assert client.set("k", "2", nx=True) is None
        assert client.set("k", "2", xx=True) is True
        assert client.set("k", "3", get=True) == b"2"
        assert client.incr("k") == 4
        assert client.decr("k", 6) == -2
        assert client.append("k", b"\xff") == 3
        assert client.get("k") == b"-2\xff"
        assert client.setnx("k", "x") is False
        assert client.getset("k", "v") == b"-2\xff"
        assert client.getdel("k") == b"v"
        assert client.getdel("k") is None
        assert client.mset({"a": 1, "b": 2}) is True
        assert client.mget("a", "b", "k") == [b"1", b"2", None]
        assert (client.exists("a", "b", "k"), client.strlen("a"), client.type("k")) == (
            2,
            1,
            b"none",
        )
        assert client.delete("a", "b", "k") == 2
        with pytest.raises(redis.ResponseError, match="not an integer"):
            client.set("k", "x") and client.incr("k")
        assert client.dbsize() == 1
    with client_of(node) as client:
        assert client.dbsize() == 0


def test_values_end_and_keys_are_listed(node: NodeProcess) -> None:
    with client_of(node, db=1) as client:
        client.set("a", 1, ex=100)
        client.execute_command("SETEX", "b", 100, 2)
        client.set("c", 3)
        assert (client.ttl("a"), client.ttl("c"), client.ttl("d")) == (100, -1, -2)
        assert client.expire("c", 50) is True
        assert client.persist("a") is True
        assert (client.ttl("a"), client.ttl("c")) == (-1, 50)
        assert sorted(client.scan_iter()) == [b"a", b"b", b"c"]
        assert sorted(client.scan_iter(match="[ab]", count=1)) == [b"a", b"b"]
    with client_of(node) as client:
        client.set("e", 1, px=100_000)
        assert 99_000 <= client.pttl("e") <= 100_000
        assert list(client.scan_iter()) == [b"e"]
    assert sorted(run("redis-cli", "-n", "1", "-p", str(node.port), "--scan").split()) == [
        "a",
        "b",
        "c",
    ]


def test_a_transaction_of_a_pipeline_says_what_to_use(node: NodeProcess) -> None:
    with client_of(node) as client:
        with pytest.raises(redis.ResponseError, match="transaction=False"):
            client.pipeline().set("k", "2").get("k").execute()
        assert client.get("k") is None

        pipe = client.pipeline(transaction=False)
        for number in range(2000):
            pipe.set(f"k{number}", number)
            pipe.get(f"k{number}")
        replies = pipe.execute()
        assert replies == [one for number in range(2000) for one in (True, b"%d" % number)]


def test_a_client_for_clusters_with_one_node(node: NodeProcess) -> None:
    with redis.RedisCluster("127.0.0.1", node.port, socket_timeout=SECONDS_MAX) as client:
        for number in range(50):
            client.set(f"k{number}", number)
        assert client.get("k7") == b"7"
        assert client.mget_nonatomic("k1", "k2", "none") == [b"1", b"2", None]
        assert client.mset_nonatomic({"a": 1, "b": 2})
        assert client.delete("a", "b") == 2
        assert client.dbsize() == 50
        pipe = client.pipeline()
        assert pipe.set("k1", "x").get("k1").execute() == [True, b"x"]


def test_any_node_of_a_cluster_serves_and_a_dead_one_is_left_out(cluster: Cluster) -> None:
    founded = cluster.found(3)
    with redis.RedisCluster("127.0.0.1", founded[0].port, socket_timeout=SECONDS_MAX) as client:
        assert len(client.get_primaries()) == 3
        for number in range(60):
            client.set(f"k{number}", number)
        for one in founded:
            with client_of(one) as plain:
                assert plain.mget([f"k{number}" for number in range(60)]) == [
                    b"%d" % number for number in range(60)
                ]
    with redis.RedisCluster("127.0.0.1", founded[1].port, socket_timeout=SECONDS_MAX) as client:
        client.set("gone", "v")
        assert client.flushdb()
        assert client.get("gone") is None
        for number in range(60):
            client.set(f"k{number}", number)
    founded[2].kill()
    until(lambda: "down" in founded[0].status["peers"].values(), "server1 to see server3 down")
    with redis.RedisCluster("127.0.0.1", founded[0].port, socket_timeout=SECONDS_MAX) as client:
        assert [client.get(f"k{number}") for number in range(60)] == [
            b"%d" % number for number in range(60)
        ]


def test_both_protocols_at_once(node: NodeProcess) -> None:
    with client_of(node) as client, node.wire() as wire:
        assert wire.ask(type="SET", key="k", value="ä")["status"] == "SUCCESS"
        assert client.get("k") == "ä".encode()
        client.set("k", "ö")
        assert wire.ask(type="GET", key="k")["value"] == "ö"


def test_a_node_that_is_killed_keeps_what_it_acknowledged_to_a_client_for_redis(
    cluster: Cluster,
) -> None:
    def start() -> NodeProcess:
        return cluster.start("server1", "--data", str(cluster.folder / "data")).wait_ready()

    values = {f"k{number}": b"\xff%d" % number for number in range(500)}
    node = start()
    with client_of(node) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        pipe = client.pipeline(transaction=False)
        for key, value in values.items():
            pipe.set(key, value)
        pipe.mset({"a": "1", "b": "2"}).delete("a")
        assert pipe.execute() == [True] * 501 + [1]
    node.kill()

    with client_of(start()) as client:
        assert client.mget(values) == list(values.values())
        assert client.mget("a", "b") == [None, b"2"]


def test_lines_that_people_type(node: NodeProcess) -> None:
    with node.wire() as wire:
        wire.send(b"set k 'two words'\r\nGET k\r\nQUIT\r\n")
        assert wire.rest() == b"+OK\r\n$9\r\ntwo words\r\n+OK\r\n"


@pytest.mark.parametrize("version", [[], ["-3"]], ids=["resp2", "resp3"])
def test_the_command_line_client(node: NodeProcess, version: list[str]) -> None:
    def ask(*words: str) -> str:
        return run("redis-cli", *version, "-p", str(node.port), *words)

    assert ask("SET", "k", "v") == "OK\n"
    assert ask("GET", "k") == "v\n"
    assert "linear namespace" in ask("INCR", "k")
    assert ask("-n", "1", "INCR", "k") == "1\n"
    assert "kvlab_node:server1" in ask("INFO", "server")
    assert "cluster_state:ok" in ask("CLUSTER", "INFO")
    assert ask("-c", "GET", "k") == "v\n"


BENCHMARK = ["redis-benchmark", "-t", "set,get,mset", "-P", "16", "-n", "2000", "-r", "1000", "-q"]


@pytest.mark.parametrize("version", [[], ["-3"]], ids=["resp2", "resp3"])
def test_the_benchmark(node: NodeProcess, version: list[str]) -> None:
    told = run(*BENCHMARK, *version, "-p", str(node.port))

    assert all(f"{name}: " in told for name in ("SET", "GET", "MSET (10 keys)"))
    assert "requests per second" in told
    assert "rror" not in told
    assert "WARNING" not in told
    assert node.counters.get("bad_requests", 0) == 0


@pytest.mark.parametrize("more", [[], ["--cluster"]], ids=["one", "each"])
def test_the_benchmark_on_a_cluster(cluster: Cluster, more: list[str]) -> None:
    founded = cluster.found(3)

    told = run(*BENCHMARK, *more, "-p", str(founded[0].port))

    assert "MSET (10 keys): " in told
    assert "rror" not in told
    assert [node.counters.get("bad_requests", 0) for node in founded] == [0, 0, 0]
    asked = [node.counters.get("resp_connections", 0) > 0 for node in founded]
    assert asked == ([True] * 3 if more else [True, False, False])
