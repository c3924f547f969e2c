"""Real nodes that ask for something: passwords, cluster secrets, certificates; and what they refuse."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvlab.errors import UsageError
from kvlab.live import security
from kvlab.live.options import NodeOptions, parse

from .certificates import make_pem
from .node_process import Cluster, NodeProcess, nodes, until

pytestmark = pytest.mark.live

WORD = "correct horse"
SECRET = "a secret of many letters"
NOAUTH = "Authentication required."


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with nodes(tmp_path) as cluster:
        yield cluster


def written(path: Path, text: str) -> str:
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


# -- options --------------------------------------------------------------------------------------

BASE = ["--id", "server1", "--addr"]


def test_off_loopback_something_must_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("10.0.0.1", "myhost", "192.168.1.5", "[fe80::1]"):
        with pytest.raises(UsageError, match="nothing is asked of them") as caught:
            parse([*BASE, f"{host}:8081"])
        assert caught.value.exit_code == 2
        assert "--password-file" in caught.value.hint
        assert "--insecure" in caught.value.hint
    for more in (["--insecure"], ["--password-file", "f"], ["--tls-cert", "c", "--tls-key", "k"]):
        assert parse([*BASE, "10.0.0.1:8081", *more]).host == "10.0.0.1"
    with pytest.raises(UsageError, match="nothing is asked of them"):
        parse(
            [*BASE, "10.0.0.1:8081", "--cluster-secret-file", "f"]
        )  # clients would be asked nothing
    monkeypatch.setenv("KVLAB_PASSWORD", WORD)
    assert parse([*BASE, "10.0.0.1:8081"]).password == WORD


def test_on_loopback_nothing_need_be_asked() -> None:
    for host in ("localhost", "127.0.0.1", "127.8.8.8", "[::1]"):
        assert not parse([*BASE, f"{host}:8081"]).insecure


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["0.0.0.0:1", "--insecure"], "no address that others could dial"),
        (["localhost:1", "--tls-cert", "c"], "belong together"),
        (["localhost:1", "--tls-key", "k"], "belong together"),
        (["localhost:1", "--tls-ca", "a"], "give --tls-cert"),
    ],
)
def test_options_that_mean_nothing_are_refused(flags: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parse([*BASE, *flags])


def test_secrets_of_the_environment_give_way_to_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVLAB_PASSWORD", WORD)
    monkeypatch.setenv("KVLAB_CLUSTER_SECRET", "short")
    with pytest.raises(UsageError, match="KVLAB_CLUSTER_SECRET is shorter than 16 bytes"):
        parse([*BASE, "localhost:1"])
    options = parse([*BASE, "localhost:1", "--cluster-secret-file", "f"])

    assert (options.password, options.cluster_secret) == (WORD, "")
    assert WORD not in repr(options)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"a\nb\n", "more than one line"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 5000, "longer than 4096 bytes"),
    ],
)
def test_a_file_that_holds_no_secret_is_told(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)

    with pytest.raises(UsageError, match=sentence) as caught:
        security.read_secret(str(file), "the password")
    assert str(file) in caught.value.message


def test_a_file_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    file = Path(written(tmp_path / "password", WORD))
    said: list[str] = []
    assert security.read_secret(str(file), "the password", said.append) == WORD
    assert not said

    file.chmod(0o644)
    security.read_secret(str(file), "the password", said.append)
    assert said == [f"the password {file} can be read by others; chmod 600 {file}"]


def test_wrong_tls_files_are_told(tmp_path: Path) -> None:
    files = security.Tls(str(tmp_path / "none"), str(tmp_path / "none"), "")
    with pytest.raises(UsageError, match="No such file"):
        security.server_context(files)
    nonsense = written(tmp_path / "nonsense", "nonsense")
    with pytest.raises(UsageError, match="NO_CERTIFICATE"):
        security.client_context(security.Tls(ca=nonsense))


def client_of(node: NodeProcess, **options) -> redis.Redis:
    """Return a client that does not try again what is refused."""
    return redis.Redis("127.0.0.1", node.port, retry=Retry(NoBackoff(), 0), **options)


# -- a password -----------------------------------------------------------------------------------


def test_clients_of_redis_and_probes_know_what_to_do(cluster: Cluster) -> None:
    node = cluster.start("server1", "--password-file", written(cluster.folder / "pw", WORD))
    for protocol in (2, 3):
        with client_of(node, password=WORD, protocol=protocol) as client:
            assert client.set("a", "1")
            assert client.get("a") == b"1"
        with client_of(node, username="default", password=WORD) as client:
            assert client.get("a") == b"1"
        with (
            client_of(node, protocol=protocol) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.get("a")
        with (
            client_of(node, password="wrong", protocol=protocol) as client,
            pytest.raises(redis.AuthenticationError, match="invalid username-password pair"),
        ):
            client.get("a")
    where = f"http://{node.address}"
    assert urllib.request.urlopen(f"{where}/healthz").read() == b"ok\n"
    with pytest.raises(urllib.error.HTTPError, match="Unauthorized"):
        urllib.request.urlopen(f"{where}/metrics")
    scrape = urllib.request.Request(f"{where}/metrics")
    scrape.add_header("Authorization", "Basic " + b64encode(f"default:{WORD}".encode()).decode())
    assert b"kvlab_auth_failures_total 2" in urllib.request.urlopen(scrape).read()
    assert WORD not in node.log


# -- a cluster secret -----------------------------------------------------------------------------


def refusals(node: NodeProcess) -> list[str]:
    return [line for line in node.log.splitlines() if "no link with" in line]


def test_only_nodes_with_the_secret_join(cluster: Cluster) -> None:
    right = ("--cluster-secret-file", written(cluster.folder / "right", SECRET))
    wrong = ("--cluster-secret-file", written(cluster.folder / "wrong", SECRET[::-1]))
    first, second = cluster.found(2, *right)

    strangers = [
        cluster.start("server8", "--join", first.address, *wrong),
        cluster.start("server9", "--join", first.address),
    ]
    for stranger in strangers:
        until(lambda node=stranger: refusals(node), f"{stranger.id} to be refused")
    until(lambda: first.counters.get("refused_peers", 0) >= 4, "them to try again")
    joiner = cluster.start("server3", "--join", first.address, *right).wait_ready()

    assert len(refusals(first)) == 1
    assert "--cluster-secret-file" in refusals(first)[0]
    assert [len(refusals(one)) for one in strangers] == [1, 1]
    assert "it has another cluster secret, or none" in refusals(strangers[0])[0]
    assert "it asks for a cluster secret, and this node has none" in refusals(strangers[1])[0]
    assert set(joiner.status["peers"]) == {"server1", "server2"}
    assert not refusals(second)
    assert SECRET not in first.log + joiner.log


def test_with_a_password_nodes_must_know_that(cluster: Cluster) -> None:
    with_it = ("--password-file", written(cluster.folder / "pw", WORD))
    first = cluster.start("server1", *with_it)
    stranger = cluster.start("server2", "--join", first.address)

    until(lambda: refusals(stranger), "it to be refused")

    assert "this node has none" in refusals(stranger)[0]


# -- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of a CA, of a node's certificate, and of one that another CA has made."""
    folder = tmp_path_factory.mktemp("pem")
    for who in ("our", "other"):
        make_pem(folder, who)
    return {path.stem: str(path) for path in folder.iterdir()}


def ask(node: NodeProcess, context: ssl.SSLContext, **request: object) -> dict:
    with (
        node.wire() as wire,
        context.wrap_socket(wire.socket, server_hostname="localhost") as tls,
    ):
        tls.sendall(json.dumps(request).encode() + b"\n")
        with tls.makefile("rb") as lines:
            return json.loads(lines.readline())


def test_nodes_and_clients_speak_tls(cluster: Cluster, pem: dict[str, str], monkeypatch) -> None:
    flags = [("tls-cert", "our-cert"), ("tls-key", "our-key"), ("tls-ca", "our-ca")]
    tls = [word for flag, name in flags for word in (f"--{flag}", pem[name])]
    trust = ssl.create_default_context(cafile=pem["our-ca"])
    monkeypatch.setattr(NodeProcess, "ask", lambda node, **request: ask(node, trust, **request))
    first, _, third = cluster.found(3, *tls)

    assert ask(first, trust, type="SET", key="a", value="x" * 300_000)["status"] == "SUCCESS"
    assert ask(third, trust, type="GET", key="a")["value"] == "x" * 300_000
    with client_of(first, ssl=True, ssl_ca_certs=pem["our-ca"]) as client:
        assert client.get("a") == b"x" * 300_000

    with pytest.raises(ssl.SSLCertVerificationError):
        ask(first, ssl.create_default_context(cafile=pem["other-ca"]), type="PING")
    with first.wire() as plain:
        plain.send(b'{"type":"PING"}\n')
        assert b"RESPONSE" not in plain.rest()

    strangers = {  # by what is wrong with them: no TLS, a certificate of another CA, none at all
        "plain": cluster.start("server7", "--join", first.address),
        "other": cluster.start(
            "server8",
            *("--join", first.address, "--tls-cert", pem["other-cert"]),
            *("--tls-key", pem["other-key"], "--tls-ca", pem["other-ca"]),
        ),
    }
    until(lambda: refusals(strangers["other"]), "the other CA to be refused")
    assert "certificate is not accepted" in refusals(strangers["other"])[0]
    with first.wire() as wire, trust.wrap_socket(wire.socket, server_hostname="localhost") as peer:
        peer.sendall(b"\xf3KVL1")
        assert peer.recv(100) == b""
    until(lambda: "it shows no certificate" in first.log, "a peer without one to be refused")
    assert set(first.status["peers"]) == {"server2", "server3"}


def test_options_say_nothing_of_secrets() -> None:
    options = NodeOptions("server1", password=WORD, cluster_secret=SECRET)

    assert WORD not in repr(options)
    assert SECRET not in repr(options)
