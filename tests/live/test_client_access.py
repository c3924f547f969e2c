"""Both clients at nodes that ask for a password, for TLS, or for both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from kvlab.engine.jsonline import Line
from kvlab.errors import DefiniteError
from kvlab.live.blocking import BlockingClient
from kvlab.live.client import Client
from kvlab.live.security import Access

from .certificates import make_pem
from .node_process import nodes

pytestmark = pytest.mark.live

WORD = "correct horse"
BIG = "x" * 2_000_000
KINDS = ("password", "tls", "both")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[str, Access]]]:
    """Nodes of all kinds: where each is, and what lets a client in."""
    folder = tmp_path_factory.mktemp("served")
    make_pem(folder, "our")
    make_pem(folder, "other")
    (folder / "password").write_text(WORD)
    password = ("--password-file", str(folder / "password"))
    tls = ("--tls-cert", str(folder / "our-cert.pem"), "--tls-key", str(folder / "our-key.pem"))
    trust = Access(tls=True, ca=str(folder / "our-ca.pem"))
    with nodes(folder) as cluster:
        kinds: dict[str, tuple[tuple[str, ...], Access]] = {
            "open": ((), Access()),
            "password": (password, Access(WORD)),
            "tls": (tls, trust),
            "both": ((*password, *tls), Access(WORD, tls=True, ca=trust.ca)),
        }
        begun = {kind: cluster.begin(kind, *flags) for kind, (flags, _) in kinds.items()}
        served = {kind: (begun[kind].wait_listening().address, kinds[kind][1]) for kind in kinds}
        yield served | {"other": ("", Access(tls=True, ca=str(folder / "other-ca.pem")))}


@pytest.mark.parametrize("kind", KINDS)
def test_the_blocking_client_is_let_in(served, kind: str) -> None:
    address, access = served[kind]
    with BlockingClient(address, access=access) as client:
        client.set("big", BIG)
        assert client.get("big") == BIG
        replies = client.pipeline([("SET", "a", "1"), ("GET", "a")] * 500)
        assert [reply.status for reply in replies] == ["SUCCESS"] * 1000
        assert client.connected_to == address
        client.close()
        assert client.get("a") == "1"


@pytest.mark.parametrize("kind", KINDS)
def test_the_asyncio_client_is_let_in(served, kind: str) -> None:
    address, access = served[kind]

    async def scene() -> None:
        async with Client(address, access=access) as client:
            await client.set("big", BIG)
            assert await client.get("big") == BIG
            await asyncio.gather(*(client.set(f"k{number}", "v") for number in range(200)))
            assert await client.get("k199") == "v"

    asyncio.run(scene())


@pytest.mark.parametrize("kind", KINDS)
def test_the_laboratory_is_let_in(served, kind: str) -> None:
    address, access = served[kind]
    host, port = address.split(":")

    async def scene() -> None:
        async with Line(host, int(port), access) as line:
            for _ in range(3):
                assert (await line.ask({"type": "STATUS"}, 5.0))["ready"]

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("at", "given", "code", "sentence"),
    [
        ("password", Access("wrong"), "WRONGPASS", "the password is wrong"),
        ("password", Access(), "NOAUTH", "asks for a password"),
        ("open", Access(WORD), "BAD_REQUEST", "no password is set here"),
        ("tls", Access(tls=True), "UNAVAILABLE", "CERTIFICATE_VERIFY_FAILED"),
        ("tls", "other", "UNAVAILABLE", "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_who_is_not_let_in_knows_that_nothing_happened(
    served, at: str, given: Access | str, code: str, sentence: str
) -> None:
    address = served[at][0]
    access = served[given][1] if isinstance(given, str) else given

    async def scene() -> None:
        async with Client(
            [address, address.replace("127.0.0.1", "localhost")], access=access
        ) as one:
            await one.set("a", "never")

    with BlockingClient(address, access=access) as client, pytest.raises(DefiniteError) as blocking:
        client.set("a", "never")
    with pytest.raises(DefiniteError) as other:
        asyncio.run(scene())
    for caught in (blocking, other):
        assert sentence in caught.value.message
        assert caught.value.code == code
        assert WORD not in caught.value.message


def test_a_node_that_does_not_speak_tls_is_not_waited_for(served) -> None:
    access = Access(tls=True)
    with (
        BlockingClient(served["open"][0], access=access, connect_timeout=5.0) as client,
        pytest.raises(DefiniteError, match="cannot be connected"),
    ):
        client.get("a")


def test_an_idle_connection_with_tls_is_used_again(served) -> None:
    address, access = served["both"]
    with BlockingClient(address, access=access) as client:
        before = client.status()["counters"]["requests"]
        line = client._line
        for _ in range(5):
            client.ping()
        assert client._line is line
        # The password was told once: five pings, and the second STATUS.
        assert client.status()["counters"]["requests"] == before + 6
    with contextlib.suppress(DefiniteError):
        client.ping()
    client.close()
