from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kvlab.cli import data, main
from kvlab.cli.data import explained, find_addresses
from kvlab.cli.options import DEFAULT_FILE
from kvlab.errors import DefiniteError, NotRunningError, UncertainError
from kvlab.lab import procs
from kvlab.lab.state import NodeRecord, Running, StateDir, write_running
from kvlab.live.client_rules import Address

from ..live.echo_store import EchoStore, serving  # noqa: TID252 - the one helper that is shared

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.live


@pytest.fixture
def store():
    with serving(EchoStore()) as started:
        yield started


@pytest.fixture
def kvlab(store, capsys):
    """Run a verb against the store; return (exit code, stdout, stderr)."""

    def run(*args):
        code = main([*args, "--addr", store.address])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_set_get_delete(kvlab):
    assert kvlab("set", "city", "New York") == (0, "OK\n", "")
    assert kvlab("get", "city") == (0, "New York\n", "")
    assert kvlab("delete", "city") == (0, "(deleted)\n", "")


def test_a_missing_key_exits_with_1(kvlab):
    assert kvlab("get", "city") == (1, "", "Key does not exist\n")
    assert kvlab("delete", "city") == (1, "", "Key does not exist\n")


def test_json_says_everything_on_stdout(kvlab, store):
    store.behave(extras={"node": "n1", "version": "7", "acks": 2, "degraded": True})
    assert json.loads(kvlab("set", "k", "v", "--json")[1]) == {
        "key": "k",
        "ok": True,
        "node": "n1",
        "version": "7",
        "acks": 2,
        "degraded": True,
    }
    assert store.seen[-1]["meta"] is True
    code, out, err = kvlab("get", "k", "--json")
    assert (code, json.loads(out)["value"], err) == (0, "v", "")
    code, out, err = kvlab("get", "nothing", "--json")
    assert (code, json.loads(out)["found"], err) == (1, False, "")
    code, out, err = kvlab("delete", "nothing", "--json")
    assert (code, json.loads(out)["deleted"], err) == (1, False, "")


def test_a_degraded_answer_warns_on_stderr(kvlab, store):
    store.behave(extras={"degraded": True})
    code, out, err = kvlab("set", "k", "v")
    assert (code, out) == (0, "OK\n")
    assert err == "WARNING: degraded, fewer replicas than asked for\n"


def test_an_unknown_outcome_exits_with_3(kvlab, store):
    store.behave(close_on_request=True)
    code, out, err = kvlab("set", "k", "v")
    assert (code, out) == (3, "")
    assert "outcome unknown" in err
    assert "hint: read the key" in err
    store.behave(close_on_request=False, error="quorum lost", code="UNKNOWN")
    assert kvlab("delete", "k")[0] == 3


def test_a_read_that_gets_no_answer_exits_with_5(kvlab, store):
    store.behave(mute=True)
    code, out, err = kvlab("get", "k", "--timeout", "100ms")
    assert (code, out) == (5, "")
    assert "did not answer within 0.1s" in err


@pytest.mark.parametrize(
    ("code", "exit_code"), [("UNAVAILABLE", 5), ("TIMEOUT", 5), ("TOO_LARGE", 2), ("WRONG_MODE", 2)]
)
def test_the_reason_of_a_refusal_decides_the_exit_code(kvlab, store, code, exit_code):
    store.behave(error="no", code=code)
    found, out, err = kvlab("set", "k", "v")
    assert (found, out) == (exit_code, "")
    assert err.startswith("error: no\n")


def test_options_travel_with_the_request(kvlab, store):
    kvlab("get", "k", "--ns", "linear", "--level", "quorum")
    assert (store.seen[-1]["ns"], store.seen[-1]["level"]) == ("linear", "quorum")
    kvlab("get", "k", "--level", "available")
    assert store.seen[-1]["level"] == "available"
    kvlab("get", "k")
    assert "ns" not in store.seen[-1]
    assert "level" not in store.seen[-1]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--timeout", "2"], "has no unit"),
        (["--timeout", "0s"], "greater than 0"),
        (["--level", "most"], "'available', 'one', 'quorum'"),
    ],
)
def test_wrong_options_exit_with_2_and_say_what_to_write(kvlab, store, args, text):
    code, out, err = kvlab("get", "k", *args)
    assert (code, out) == (2, "")
    assert text in err
    assert store.seen == []


def test_a_wrong_address_exits_with_2(capsys):
    assert main(["get", "k", "--addr", "nowhere"]) == 2
    assert "host:port" in capsys.readouterr().err


def test_several_addresses_fail_over(kvlab, store):
    store.data["k"] = "v"
    assert kvlab("get", "k", "-a", "127.0.0.1:1")[:2] == (0, "v\n")


def test_keys_that_look_like_options_follow_two_dashes(store, capsys):
    assert main(["set", "--addr", store.address, "--", "-k", "--v"]) == 0
    assert store.data == {"-k": "--v"}


def run(*args, stdin=b"", cwd=ROOT):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "kvlab", *args],
        input=stdin,
        capture_output=True,
        timeout=30,
        cwd=cwd,
        env=env,
        check=False,
    )


@pytest.mark.parametrize(("stdin", "value"), [(b"a\nb\n", "a\nb"), (b"a\n\n", "a\n"), (b"", "")])
def test_a_dash_reads_standard_input_without_its_last_newline(store, stdin, value):
    assert run("set", "k", "-", "-a", store.address, stdin=stdin).returncode == 0
    assert store.data == {"k": value}


@pytest.mark.parametrize(
    ("stdin", "text"), [(b"\xff", b"not UTF-8"), (b"x" * (8 << 20) + b"y", b"larger than 8mb")]
)
def test_a_value_that_cannot_be_stored_is_refused_before_it_is_sent(store, stdin, text):
    done = run("set", "k", "-", "-a", store.address, stdin=stdin)
    assert done.returncode == 2
    assert text in done.stderr
    assert store.seen == []


def test_without_a_cluster_the_usual_port_is_tried(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_addresses(None, DEFAULT_FILE) == (Address("localhost", 8081),)
    with pytest.raises(NotRunningError):
        find_addresses([], tmp_path / "other.yaml")


def test_the_nodes_of_the_running_cluster_are_found_by_its_file(tmp_path, monkeypatch):
    spec = tmp_path / "cluster.yaml"
    spec.write_text("")
    directory = StateDir(tmp_path / ".kvlab" / "demo")
    directory.create()
    nodes = {
        "server1": NodeRecord("127.0.0.1", 4001, "127.0.0.1:5001"),
        "server2": NodeRecord("::1", 4002, "[::1]:5002"),
    }
    pid = os.getpid()
    start = procs.start_time(pid)
    write_running(
        Running(
            name="demo",
            pid=pid,
            start_time=start,
            spec=str(spec),
            control=str(directory.control),
            nodes=nodes,
        )
    )
    monkeypatch.chdir(tmp_path)
    expected = (Address("127.0.0.1", 4001), Address("::1", 4002))
    assert find_addresses(None, DEFAULT_FILE) == expected
    assert find_addresses(None, spec) == expected
    assert find_addresses(["a:1"], spec) == (Address("a", 1),)


def test_every_error_of_a_node_keeps_its_message_and_gets_an_exit_code():
    assert explained(UncertainError("m", code="UNKNOWN")).exit_code == 3
    assert explained(DefiniteError("m", code="BAD_REQUEST")).exit_code == 2
    assert explained(DefiniteError("m", code="UNAVAILABLE")).exit_code == 5
    assert explained(UncertainError("m", hint="h")).hint == "h"


def test_help_has_examples(capsys):
    for verb in ("client", "get", "set", "delete"):
        assert main([verb, "--help"]) == 0
        assert f"kvlab {verb}" in capsys.readouterr().out.partition("Examples:")[2]


def test_the_history_lies_where_the_xdg_specification_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert data.history_path() == tmp_path / "kvlab" / "client_history"


def test_data_verbs_start_no_thread(kvlab):
    before = threading.active_count()
    kvlab("set", "k", "v")
    assert threading.active_count() == before
