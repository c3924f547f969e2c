from __future__ import annotations

import signal
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvlab.errors import DefiniteError, UncertainError
from kvlab.live.blocking import BlockingClient
from kvlab.wire.json_lines import Reply

from .echo_store import EchoStore, serving
from .node_process import reserve_port

pytestmark = pytest.mark.live


@pytest.fixture
def store():
    with serving(EchoStore()) as started:
        yield started


@pytest.fixture
def other():
    with serving(EchoStore()) as started:
        yield started


def client_of(*stores, timeout=5.0, **options):
    return BlockingClient([one.address for one in stores], timeout=timeout, **options)


@pytest.fixture
def nobody():
    """An address where nobody listens, and that nobody is given meanwhile."""
    with reserve_port() as held:
        yield f"127.0.0.1:{held.getsockname()[1]}"


def test_the_verbs(store):
    with client_of(store) as client:
        assert client.get("k") is None
        client.set("k", "v")
        assert client.get("k") == "v"
        assert client.delete("k") is True
        assert client.delete("k") is False
        assert client.ping()["id"] == "echo"
        assert client.status()["keys"] == 0
        assert client.connected_to == store.address
    assert client.connected_to is None


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from(["SET", "GET", "DELETE"]), st.sampled_from("abc"), st.text(max_size=9)
        ),
        max_size=60,
    ),
    window=st.integers(1, 20),
    chunk=st.integers(0, 9),
    go=st.booleans(),
)
def test_a_pipeline_answers_like_a_dictionary(store, requests, window, chunk, go):
    store.data.clear()
    store.behave(chunk_bytes=chunk, go_style=go)
    model: dict[str, str] = {}
    with client_of(store, pipeline_max=window) as client:
        answers = client.pipeline(requests)
    for (kind, key, value), answer in zip(requests, answers, strict=True):
        assert isinstance(answer, Reply)
        missing = kind != "SET" and key not in model
        assert answer.error == ("Key does not exist" if missing else "")
        if kind == "SET":
            model[key] = value
        elif not missing and kind == "GET":
            assert answer.value == model[key]
        elif not missing:
            del model[key]


def test_a_pipeline_larger_than_all_buffers_does_not_block_itself(store):
    big = "x" * 1_000_000
    with client_of(store, timeout=20.0) as client:
        answers = client.pipeline([("SET", "k", big), ("GET", "k")] * 12)
    assert [len(one.value) for one in answers] == [0, len(big)] * 12


def test_a_timed_out_request_is_followed_by_the_right_reply(store):
    store.behave(mute=True)
    store.data["old"] = "old value"
    with client_of(store, timeout=0.15) as client:
        with pytest.raises(DefiniteError) as caught:
            client.get("old")
        assert caught.value.code == "TIMEOUT"
        with pytest.raises(UncertainError, match="did not answer within"):
            client.set("k", "v1")
        store.behave(mute=False)
        assert client.get("k") == "v1"
        assert store.connections == 1


def test_too_many_lost_requests_bring_a_new_connection(store):
    store.behave(mute=True)
    with client_of(store, timeout=0.05, lost_max=3) as client:
        for _ in range(3):
            with pytest.raises(DefiniteError):
                client.get("k")
        store.behave(mute=False)
        assert client.get("k") is None
        assert store.connections == 2


def test_a_write_that_dies_is_uncertain_and_not_repeated(store, other):
    store.behave(close_on_request=True)
    with client_of(store, other) as client:
        with pytest.raises(UncertainError, match="closed the connection"):
            client.set("k", "v")
        assert store.types() == ["SET"]
        assert other.types() == []
        client.set("k", "v2")
    assert other.data == {"k": "v2"}


@pytest.mark.parametrize(
    "trouble", [{"close_on_request": True}, {"mute": True}, {"cut_reply": True}, {"garbage": b"no"}]
)
def test_a_read_is_repeated_at_the_next_address_which_is_kept(store, other, trouble):
    store.behave(**trouble)
    other.data["k"] = "v"
    with client_of(store, other, timeout=0.2) as client:
        assert client.get("k") == "v"
        assert client.get("k") == "v"
        assert client.connected_to == other.address
    assert store.types() == ["GET"]


def test_a_write_goes_to_the_next_address_if_the_first_refuses(store, nobody):
    with BlockingClient([nobody, store.address]) as client:
        client.set("k", "v")
    assert store.data == {"k": "v"}


def test_a_connection_that_died_while_idle_costs_no_write(store):
    with client_of(store) as client:
        client.set("a", "1")
        store.drop_connections()
        # The end of the connection has arrived once the socket is readable.
        client._line._poll.poll(5000)
        client.set("b", "2")
        assert store.types() == ["SET", "SET"]


def test_no_node_is_definite_and_repeated_attempts_wait_their_turn(nobody):
    with BlockingClient(nobody) as client:
        started = time.monotonic()
        for _ in range(3):
            with pytest.raises(DefiniteError) as caught:
                client.set("k", "v")
            assert "refuses connections" in caught.value.message
        assert time.monotonic() - started >= 0.1  # rests of 50 and 100 ms


def test_garbage_is_named_and_a_write_is_uncertain(store):
    store.behave(garbage=b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with client_of(store) as client:
        with pytest.raises(UncertainError, match="no reply"):
            client.set("k", "v")
        with pytest.raises(DefiniteError) as caught:
            client.get("k")
        assert caught.value.code == "BAD_REPLY"


def test_a_reply_too_many_is_never_taken_for_the_next_answer(store):
    store.data.update(a="1", b="2")
    with client_of(store) as client:
        store.behave(extra_reply=True)
        assert client.get("a") == "1"
        store.behave(extra_reply=False)
        assert client.get("b") == "2"


@pytest.mark.parametrize(("code", "kind"), [("UNKNOWN", UncertainError), ("BUSY", DefiniteError)])
def test_error_replies_keep_their_meaning(store, code, kind):
    store.behave(error="it failed", code=code)
    with client_of(store) as client, pytest.raises(kind, match="it failed"):
        client.set("k", "v")


def test_a_broken_pipeline_says_what_is_known_of_each_request(store):
    original = store._apply

    def apply(request):
        if request["key"] == "k1":
            store.behave(close_on_request=True)
        return original(request)

    store._apply = apply
    with client_of(store) as client:
        answers = client.pipeline([("SET", f"k{i}", "v") for i in range(3)] + [("GET", "k0")])
    kinds = [type(one).__name__ for one in answers]
    assert kinds == ["Reply", "UncertainError", "UncertainError", "DefiniteError"]
    assert len(store.seen) == 2


def test_a_peer_that_reads_nothing_ends_in_a_time_out_and_the_connection_is_given_up(store):
    store.behave(deaf=True)
    with client_of(store, timeout=0.2) as client:
        with pytest.raises(UncertainError, match="did not answer"):
            client.set("k", "x" * 8_000_000)
        # The rest of the request must not become the start of the next one.
        assert client.connected_to is None
        store.behave(deaf=False)
        client.set("k", "v")
    assert store.data == {"k": "v"}


def test_an_interrupt_while_waiting_gives_up_the_connection(store):
    store.behave(mute=True)
    store.data.update(a="1", b="2")
    previous = signal.signal(signal.SIGUSR1, _interrupt)
    try:
        with client_of(store, timeout=10.0) as client:
            main = threading.main_thread().ident
            timer = threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGUSR1))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                client.get("a")
            timer.join()
            store.behave(mute=False)
            assert client.get("b") == "2"
            assert store.connections == 2
    finally:
        signal.signal(signal.SIGUSR1, previous)


def _interrupt(number, frame):
    raise KeyboardInterrupt
