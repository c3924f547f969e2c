"""The commands that a person types at `kvlab client`: quoting, execution, prompt and pipe.

It does not open connections or choose addresses: it is given a client (live/blocking.py), so it
works with every server that speaks the JSON protocol.

A value with blanks must be quoted (repl_words.py): more words than a command takes are an error,
never joined, because joining would silently change the blanks between them.

Invariants:

1. Answers go to `out`, everything else to `err`; a command that failed never prints to `out`.
2. What goes to a terminal holds no control characters: such a value is shown as `quote` writes it.
"""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, TextIO

from kvlab.cli.repl_commands import COMMANDS, HELP_END
from kvlab.cli.repl_words import escaped, quote, split_words
from kvlab.errors import ClientError, KvlabError, UncertainError, UsageError
from kvlab.live.client_messages import deleted_of, info_of, raise_error, value_of

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.input import Input
    from prompt_toolkit.output import Output

    from kvlab.wire.json_lines import Reply

SEEN_KEYS_MAX: Final = 500
"""Keys kept for completion."""
LINE_BYTES_MAX: Final = 16 << 20
"""A longer line of a pipe is refused: no value that a node takes needs it."""


class Client(Protocol):
    """What the commands need of a client."""

    @property
    def connected_to(self) -> str | None:
        """Return the address in use, or None."""

    def request(self, kind: str, key: str = "", value: str = "", **extras: Any) -> Reply:
        """Send one request and return its reply."""


class Repl:
    """Executes lines against a client and prints what comes back."""

    def __init__(
        self,
        client: Client,
        out: TextIO,
        err: TextIO,
        *,
        as_json: bool = False,
        terminal: bool = False,
    ) -> None:
        self.done = False
        self._client = client
        self._out = out
        self._err = err
        self._as_json = as_json
        self._terminal = terminal
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._do: dict[str, Callable[..., None]] = {
            "GET": self._get,
            "SET": self._set,
            "DELETE": self._delete,
            "CAS": self._cas,
            "INCR": self._incr,
            "APPEND": self._append,
            "SETNX": self._setnx,
            "PING": self._ping,
            "STATUS": self._status,
            "HELP": self._help,
            "EXIT": self._exit,
            "QUIT": self._exit,
        }

    @property
    def seen_keys(self) -> list[str]:
        """Return the keys used so far, the latest first."""
        return list(reversed(self._seen))

    def run(self, line: str) -> bool:
        """Execute one line and say whether it succeeded; a blank line or a comment does."""
        if not line.strip() or line.lstrip().startswith("#"):
            return True
        before = self._client.connected_to
        try:
            name, arguments = self._parse(line)
            self._do[name](*arguments)
        except KvlabError as error:
            self._complain(error)
            if isinstance(error, ClientError) and not self._client.connected_to:
                self._note("not connected now; the next command connects again")
            return False
        now = self._client.connected_to
        if before and now and before != now:
            self._note(f"connected to {now} now; {before} did not serve")
        return True

    def complain(self, message: str) -> None:
        """Print an error that is not the answer to a command."""
        self._say(self._err, f"ERROR: {message}")

    def _parse(self, line: str) -> tuple[str, list[str]]:
        first, *arguments = split_words(line)
        name = first.upper()
        command = COMMANDS.get(name)
        if command is None:
            known = " ".join(name for name in COMMANDS if name != "QUIT")
            raise UsageError(f"{first!r} is not a command", hint=f"the commands are {known}")
        most = command.arguments + command.optional
        if len(arguments) > most and name == "SET":
            raise UsageError(
                "SET takes a key and one value",
                hint=f"quote values with spaces: SET {quote(arguments[0])} "
                f"{quote(' '.join(arguments[1:]))}",
            )
        if not command.arguments <= len(arguments) <= most:
            empty = ', and "" for an empty one' if name == "SET" else ""
            raise UsageError(
                f"wrong number of words for {name}", hint=f"write {command.usage}{empty}"
            )
        return name, arguments

    # One method per command.

    def _get(self, key: str) -> None:
        reply = self._client.request("GET", key)
        value = value_of(reply, key)
        if value is None:
            raise ClientError("Key does not exist", code="NOT_FOUND")
        self._saw(key)
        self._answer("GET", reply, value, key=key, value=value)

    def _set(self, key: str, value: str) -> None:
        reply = self._client.request("SET", key, value)
        raise_error(reply, "SET", key)
        self._saw(key)
        self._answer("SET", reply, "OK", key=key)

    def _delete(self, key: str) -> None:
        reply = self._client.request("DELETE", key)
        if not deleted_of(reply, key):
            raise ClientError("Key does not exist", code="NOT_FOUND")
        self._answer("DELETE", reply, "(deleted)", key=key)

    def _cas(self, key: str, expected: str, value: str) -> None:
        self._write("CAS", key, value, expected=expected)

    def _incr(self, key: str, by: str = "1") -> None:
        try:
            self._write("INCR", key, by=int(by))
        except ValueError:
            raise UsageError(f"{by!r} is not a whole number", hint="write INCR key 2") from None

    def _append(self, key: str, value: str) -> None:
        self._write("APPEND", key, value)

    def _setnx(self, key: str, value: str) -> None:
        self._write("SETNX", key, value)

    def _write(self, kind: str, key: str, value: str = "", **extras: Any) -> None:
        """Do what depends on what is there; print what it tells."""
        reply = self._client.request(kind, key, value, **extras)
        raise_error(reply, kind, key)
        self._saw(key)
        self._answer(kind, reply, reply.value or "OK", key=key, value=reply.value)

    def _ping(self) -> None:
        reply = self._client.request("PING")
        info = info_of(reply, "PING")
        ready = "" if info.get("ready", True) else " (not ready yet)"
        who = f" from {info['id']}" if "id" in info else ""
        self._answer("PING", reply, f"PONG{who}{ready}", info=info)

    def _status(self) -> None:
        reply = self._client.request("STATUS")
        info = info_of(reply, "STATUS")
        width = max(map(len, info), default=0)
        lines = [f"{name.ljust(width)}  {_flat(value)}" for name, value in info.items()]
        self._answer("STATUS", reply, "\n".join(lines), info=info)

    def _help(self, name: str = "") -> None:
        if name:
            command = COMMANDS.get(name.upper())
            if command is None:
                raise UsageError(f"{name!r} is not a command", hint="HELP lists them")
            self._say(self._out, f"{command.usage}\n{command.help}")
            return
        width = max(len(command.usage) for command in COMMANDS.values())
        lines = [f"{c.usage.ljust(width)}  {c.help}" for n, c in COMMANDS.items() if n != "QUIT"]
        self._say(self._out, "\n".join([*lines, HELP_END]))

    def _exit(self) -> None:
        self.done = True

    # Printing.

    def _answer(self, command: str, reply: Reply, text: str, **fields: Any) -> None:
        if self._as_json:
            head = {"ok": True, "command": command, **fields}
            print(json.dumps(head | facts(reply), ensure_ascii=False), file=self._out, flush=True)
            return
        self._say(self._out, text, value=command == "GET")
        if reply.degraded:
            self._say(self._err, f"WARNING: {degraded_text(reply)}")

    def _complain(self, error: KvlabError) -> None:
        if self._as_json:
            code = getattr(error, "code", "")
            body = {"ok": False, "error": error.message, "code": code, "hint": error.hint}
            body["uncertain"] = isinstance(error, UncertainError)
            print(json.dumps(body, ensure_ascii=False), file=self._err, flush=True)
            return
        self.complain(error.message)
        if error.hint:
            self._note(error.hint)

    def _note(self, text: str) -> None:
        if not self._as_json:
            self._say(self._err, f"  {text}")

    def _say(self, stream: TextIO, text: str, *, value: bool = False) -> None:
        if self._terminal and value and not text.isprintable():
            text = quote(text)
        elif self._terminal and not value:
            text = "".join(c if c.isprintable() or c == "\n" else escaped(c) for c in text)
        print(text, file=stream, flush=True)

    def _saw(self, key: str) -> None:
        self._seen[key] = None
        self._seen.move_to_end(key)
        while len(self._seen) > SEEN_KEYS_MAX:
            self._seen.popitem(last=False)


def facts(reply: Reply) -> dict[str, Any]:
    """Return what a reply says of how it was served, without what it does not say."""
    names = ("node", "version", "acks", "degraded")
    return {name: value for name in names if (value := getattr(reply, name))}


def degraded_text(reply: Reply) -> str:
    """Say that fewer replicas took part than asked for."""
    acks = f": only {reply.acks} answered" if reply.acks else ""
    return f"degraded, fewer replicas than asked for{acks}"


def _flat(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# The two ways to feed it.


def run_pipe(repl: Repl, source: BinaryIO) -> int:
    """Execute the lines of `source`; return 1 if any command failed, else 0."""
    failed = False
    for number, line in enumerate(_lines(source), start=1):
        if len(line) > LINE_BYTES_MAX:
            repl.complain(f"line {number} is longer than {LINE_BYTES_MAX >> 20}mb; stopped there")
            return 1
        try:
            text = line.decode()
        except UnicodeDecodeError:
            repl.complain(f"line {number} is not UTF-8 text")
            failed = True
            continue
        failed |= not repl.run(text)
        if repl.done:
            break
    return int(failed)


def _lines(source: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: source.readline(LINE_BYTES_MAX + 1), b"")


def run_terminal(
    repl: Repl,
    client: Client,
    history: Path | None,
    *,
    source: Input | None = None,
    screen: Output | None = None,
) -> int:
    """Prompt until EXIT or Ctrl-D; `history` is the file that keeps the lines, if any."""
    # prompt_toolkit takes a tenth of a second to load; a pipe does without it.
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory
    from prompt_toolkit.shortcuts import CompleteStyle

    past: History = FileHistory(str(history)) if _writable(history) else InMemoryHistory()
    session: PromptSession[str] = PromptSession(
        history=past,
        completer=_completer(repl),
        complete_style=CompleteStyle.READLINE_LIKE,  # Tab completes at once, as in a shell
        complete_while_typing=False,
        input=source,
        output=screen,
    )
    while not repl.done:
        try:
            text = session.prompt(f"{client.connected_to or 'not connected'}> ")
        except KeyboardInterrupt:
            continue  # Ctrl-C clears the line
        except EOFError:
            break
        try:
            # A paste may hold several lines: each is a command.
            for line in text.split("\n"):
                if not repl.done:
                    repl.run(line)
        except KeyboardInterrupt:
            repl.complain("interrupted while waiting: a SET or DELETE may have happened")
    return 0


def _writable(history: Path | None) -> bool:
    if history is None:
        return False
    try:
        history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        history.touch(mode=0o600)
    except OSError:
        return False
    return True


def _completer(repl: Repl) -> Completer:
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    class Words(Completer):
        """Completes commands, then keys that were used before."""

        def get_completions(
            self,
            document: Document,
            complete_event: CompleteEvent,  # noqa: ARG002
        ) -> Iterable[Completion]:
            for text in completions(document.text_before_cursor, repl.seen_keys):
                last = document.text_before_cursor.rpartition(" ")[2]
                yield Completion(text, start_position=-len(last))

    return Words()


def completions(typed: str, keys: Iterable[str]) -> list[str]:
    """Return what the last word of `typed` may become."""
    *before, last = typed.lstrip().split(" ")
    if not before:
        return [name for name in COMMANDS if name.startswith(last.upper())]
    if len([word for word in before if word]) > 1:
        return []
    command = before[0].upper()
    if command == "HELP":
        return [name for name in COMMANDS if name.startswith(last.upper())]
    if command in COMMANDS and COMMANDS[command].arguments:
        return [text for key in keys if (text := quote(key)).startswith(last)]
    return []


def open_output(stream: TextIO) -> TextIO:
    """Let a stream take every character, whatever the encoding of the terminal."""
    reconfigure = getattr(stream, "reconfigure", None)
    if stream in (sys.stdout, sys.stderr) and reconfigure is not None:
        reconfigure(errors="backslashreplace")
    return stream
