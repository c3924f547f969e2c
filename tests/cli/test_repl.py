from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from kvlab.cli.repl import SEEN_KEYS_MAX, Repl, completions, run_pipe, run_terminal
from kvlab.cli.repl_commands import COMMANDS
from kvlab.live.blocking import BlockingClient
from kvlab.wire.json_lines import Reply

from ..live.echo_store import EchoStore, serving  # noqa: TID252 - the one helper that is shared

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.live


@pytest.fixture
def store():
    with serving(EchoStore()) as started:
        yield started


class Session:
    """A Repl with its streams."""

    def __init__(self, *addresses, timeout=5.0, **options):
        self.client = BlockingClient(addresses, timeout=timeout)
        self.out, self.err = io.StringIO(), io.StringIO()
        self.repl = Repl(self.client, self.out, self.err, **options)

    def run(self, *lines):
        """Run lines and return (all succeeded, out, err) of just these."""
        before = self.out.tell(), self.err.tell()
        good = [self.repl.run(line) for line in lines].count(False) == 0
        return good, self.out.getvalue()[before[0] :], self.err.getvalue()[before[1] :]


@pytest.fixture
def session(store):
    made = Session(store.address)
    with made.client:
        yield made


def test_set_get_delete_in_any_case(session):
    assert session.run("SET a 1", "get a", "Delete a") == (True, "OK\n1\n(deleted)\n", "")


def test_a_missing_key_is_an_error_on_stderr(session):
    assert session.run("GET a") == (False, "", "ERROR: Key does not exist\n")
    assert session.run("DELETE a") == (False, "", "ERROR: Key does not exist\n")


def test_blank_lines_and_comments_do_nothing(session):
    assert session.run("", "   ", "# SET a 1", "  #x") == (True, "", "")


def test_a_value_with_spaces_must_be_quoted_and_the_error_shows_how(session, store):
    good, out, err = session.run("SET a b c")
    assert not good
    assert out == ""
    assert 'quote values with spaces: SET a "b c"' in err
    assert store.seen == []
    assert session.run('SET a "b  c"', "GET a") == (True, "OK\nb  c\n", "")


@pytest.mark.parametrize(
    ("line", "help_"),
    [
        ("FOO a", "the commands are GET SET DELETE CAS INCR APPEND SETNX PING STATUS HELP EXIT"),
        ("GET", "write GET key"),
        ("GET a b", "write GET key"),
        ("SET a", 'write SET key value, and "" for an empty one'),
        ("PING now", "write PING"),
        ("HELP FOO", "HELP lists them"),
        ('GET "a', "end the value with"),
    ],
)
def test_a_wrong_command_says_what_to_write(session, store, line, help_):
    good, out, err = session.run(line)
    assert not good
    assert out == ""
    assert err.startswith("ERROR: ")
    assert help_ in err
    assert store.seen == []


def test_ping_status_and_help(session):
    good, out, _ = session.run("ping")
    assert (good, out) == (True, "PONG from echo\n")
    good, out, _ = session.run("STATUS")
    assert "keys   0" in out
    good, out, _ = session.run("HELP")
    assert all(name in out for name in ("SET key value", "GET key", "DELETE key", "EXIT"))
    good, out, _ = session.run("help set")
    assert out.startswith("SET key value\n")


def test_exit_and_quit_end_it(session):
    assert not session.repl.done
    session.run("quit")
    assert session.repl.done


def test_a_degraded_answer_warns_on_stderr(session, store):
    store.behave(extras={"degraded": True, "acks": 1})
    assert session.run("SET a 1") == (
        True,
        "OK\n",
        "WARNING: degraded, fewer replicas than asked for: only 1 answered\n",
    )


def test_an_uncertain_outcome_says_so(session, store):
    store.behave(close_on_request=True)
    good, out, err = session.run("SET a 1")
    assert not good
    assert out == ""
    assert "outcome unknown: SET 'a' may have happened" in err
    assert "the next command connects again" in err
    store.behave(close_on_request=False)
    assert session.run("GET a") == (True, "1\n", "")


def test_a_change_of_address_is_told(store):
    with serving(EchoStore()) as other:
        session = Session(store.address, other.address)
        with session.client:
            session.run("PING")
            store.behave(close_on_request=True)
            _, out, err = session.run("PING")
    assert out == "PONG from echo\n"
    assert f"connected to {other.address} now" in err


def test_a_server_that_is_not_kvlab_is_recognised(session, store):
    store.behave(garbage=b"-ERR unknown command\r\n")
    good, _, err = session.run("GET a")
    assert not good
    assert "no reply" in err
    assert "is it a kvlab node" in err


def test_an_old_server_without_status_is_explained(session, store):
    store.behave(extras={"status": "ERROR", "error": "Invalid request type"})
    _, _, err = session.run("STATUS")
    assert "Invalid request type" in err
    assert "does not know the request" in err


def test_a_terminal_gets_no_control_characters_and_a_pipe_gets_them_raw(store):
    store.data["k"] = "\x1b[31mred\nline"
    for terminal, shown in ((True, '"\\u001b[31mred\\nline"\n'), (False, "\x1b[31mred\nline\n")):
        session = Session(store.address, terminal=terminal)
        with session.client:
            assert session.run("GET k")[1] == shown


def test_json_answers_are_one_document_a_line(store):
    session = Session(store.address, as_json=True)
    with session.client:
        _, out, err = session.run("SET a 1", "GET a", "GET b", "PING")
    documents = [json.loads(line) for line in out.splitlines()]
    assert [one["command"] for one in documents] == ["SET", "GET", "PING"]
    assert documents[1]["value"] == "1"
    error = json.loads(err)
    assert (error["ok"], error["code"], error["uncertain"]) == (False, "NOT_FOUND", False)


def test_seen_keys_are_bounded_and_the_latest_come_first(session):
    for i in range(SEEN_KEYS_MAX + 20):
        session.repl._saw(f"k{i}")
    session.repl._saw("k100")
    keys = session.repl.seen_keys
    assert len(keys) == SEEN_KEYS_MAX
    assert keys[:2] == ["k100", f"k{SEEN_KEYS_MAX + 19}"]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("", list(COMMANDS)),
        ("s", ["SET", "SETNX", "STATUS"]),
        ("get ", ["city", '"a b"']),
        ("GET ci", ["city"]),
        ('del "a', []),
        ('delete "a', ['"a b"']),
        ("set city ", []),
        ("ping ", []),
        ("help de", ["DELETE"]),
        ("nonsense ", []),
    ],
)
def test_completion_knows_commands_and_keys(typed, found):
    assert completions(typed, ["city", "a b"]) == found


# Fed by a pipe.


def pipe(session, data):
    return run_pipe(session.repl, io.BytesIO(data))


def test_a_pipe_exits_with_1_only_if_a_command_failed(session):
    assert pipe(session, b"SET a 1\n\n# note\nGET a\n") == 0
    assert pipe(session, b"GET nothing\nGET a\n") == 1
    assert session.out.getvalue() == "OK\n1\n1\n"


def test_a_pipe_takes_windows_line_ends_and_a_last_line_without_one(session):
    assert pipe(session, b"SET a 1\r\nGET a") == 0
    assert session.out.getvalue() == "OK\n1\n"


def test_exit_stops_a_pipe(session):
    assert pipe(session, b"EXIT\nGET nothing\n") == 0


def test_a_line_that_is_not_text_is_named_and_the_rest_goes_on(session):
    assert pipe(session, b"SET a 1\nGET \xff\nGET a\n") == 1
    assert session.err.getvalue() == "ERROR: line 2 is not UTF-8 text\n"
    assert session.out.getvalue() == "OK\n1\n"


def test_a_line_without_end_is_refused(session, monkeypatch):
    monkeypatch.setattr("kvlab.cli.repl.LINE_BYTES_MAX", 1 << 20)
    assert pipe(session, b"SET a " + b"x" * (1 << 20) + b"\nGET a\n") == 1
    assert "line 1 is longer than 1mb" in session.err.getvalue()
    assert session.out.getvalue() == ""


def kvlab(*args, stdin=b"", **env):
    return subprocess.run(
        [sys.executable, "-m", "kvlab", *args],
        input=stdin,
        capture_output=True,
        timeout=30,
        cwd=ROOT,
        env=os.environ | env,
        check=False,
    )


def test_the_real_command_in_a_pipe(store):
    done = kvlab("client", "--addr", store.address, stdin='SET k "ä b"\nGET k\nGET x\n'.encode())
    assert done.stdout.decode() == "OK\nä b\n"
    assert done.stderr == b"ERROR: Key does not exist\n"
    assert done.returncode == 1


def test_the_real_command_without_a_server_fails_each_command_without_a_traceback():
    done = kvlab("client", "--addr", "127.0.0.1:1", stdin=b"PING\nGET a\n")
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.count(b"ERROR: cannot reach a node: 127.0.0.1:1 refuses connections") == 2
    assert b"Traceback" not in done.stderr


def test_an_encoding_that_lacks_a_character_is_no_failure(store):
    store.data["k"] = "漢"
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = kvlab("client", "--addr", store.address, stdin=b"GET k\n", **env)
    assert (done.returncode, done.stdout) == (0, b"\\u6f22\n")


# At a prompt.


def prompt(session, text, history=None):
    """Type `text` at the prompt, then end the input."""
    with create_pipe_input() as keys:
        keys.send_text(text)
        return run_terminal(
            session.repl, session.client, history, source=keys, screen=DummyOutput()
        )


def test_the_prompt_executes_lines_until_exit(session):
    assert prompt(session, "SET a 1\nget a\nexit\n") == 0
    assert session.out.getvalue() == "OK\n1\n"


def test_ctrl_d_leaves(session):
    assert prompt(session, "SET a 1\n\x04") == 0
    assert session.out.getvalue() == "OK\n"


def test_ctrl_c_clears_the_line(session, store):
    assert prompt(session, "SET a 1\x03GET b\n\x04") == 0
    assert store.types() == ["GET"]


def test_a_failed_command_does_not_end_the_prompt(session):
    assert prompt(session, "GET nothing\nfoo\nPING\nexit\n") == 0
    assert session.out.getvalue() == "PONG from echo\n"


def test_tab_completes_commands_and_keys(session, store):
    assert prompt(session, "SET longkey 1\nDEL\t longk\t\nexit\n") == 0
    assert store.types() == ["SET", "DELETE"]
    assert store.data == {}


def test_history_is_kept_in_a_private_file(session, tmp_path):
    history = tmp_path / "state" / "history"
    prompt(session, "SET a 1\nexit\n", history)
    assert "+SET a 1" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
    prompt(session, "\x04", history)


def test_the_line_before_comes_back_with_the_arrow(session, store, tmp_path):
    history = tmp_path / "history"
    prompt(session, "SET a 1\nexit\n", history)
    session.repl.done = False
    prompt(session, "\x1b[A\x1b[A\n\x04", history)
    assert store.types() == ["SET", "SET"]


def test_a_history_that_cannot_be_written_is_no_failure(session, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    assert prompt(session, "PING\nexit\n", blocker / "history") == 0
    assert session.out.getvalue() == "PONG from echo\n"


def test_several_pasted_lines_are_several_commands(session, store):
    assert prompt(session, "\x1b[200~SET a 1\nSET b 2\x1b[201~\nexit\n") == 0
    assert store.data == {"a": "1", "b": "2"}


def test_an_interrupt_while_waiting_says_what_may_have_happened(session, store, monkeypatch):
    def interrupted(line):
        raise KeyboardInterrupt

    monkeypatch.setattr(session.repl, "run", interrupted)
    assert prompt(session, "SET a 1\n\x04") == 0
    assert "may have happened" in session.err.getvalue()


class Counter:
    """A client that keeps what it was asked, and answers with a number."""

    connected_to = "here"

    def __init__(self) -> None:
        self.asked: list[object] = []

    def request(self, kind, key="", value="", **extras):
        self.asked.append((kind, key, value, extras))
        return Reply("RESPONSE", key, "7", "", "SUCCESS", "")


def test_the_commands_of_the_linear_namespace_ask_what_they_say():
    client, out, err = Counter(), io.StringIO(), io.StringIO()
    repl = Repl(client, out, err)

    for line in ("cas k old new", "incr k", "incr k -2", "append k more", "setnx k v"):
        assert repl.run(line), err.getvalue()
    assert not repl.run("incr k much")

    assert client.asked == [
        ("CAS", "k", "new", {"expected": "old"}),
        ("INCR", "k", "", {"by": 1}),
        ("INCR", "k", "", {"by": -2}),
        ("APPEND", "k", "more", {}),
        ("SETNX", "k", "v", {}),
    ]
    assert out.getvalue() == "7\n" * 5
    assert "'much' is not a whole number" in err.getvalue()
