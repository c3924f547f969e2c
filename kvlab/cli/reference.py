"""Writes docs/reference/cli.md out of the app itself: every verb, argument and option.

It runs no verb. `scripts/docs` prints its text into the file, and a test holds the two together.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

from kvlab.cli.app import command
from kvlab.cli.registry import VERBS
from kvlab.live.options import node_parser

_HEAD = """\
# Every verb

<!-- Made by scripts/docs; do not edit. -->

`kvlab VERB --help` says the same in a terminal.
Verbs that list something take `--json`: then standard output holds one JSON document and nothing else.
Progress and errors go to standard error.
`kvlab --debug VERB` shows the traceback of an error, `kvlab --version` prints the version.

Exit codes: 0 done (a verdict: valid), 1 a missing key or an invalid verdict, 2 wrong usage or a wrong \
file, 3 unknown, 4 a run that proved nothing, 5 the machine, a process or a node is not as needed, \
70 a defect of kvlab itself, 130 interrupted.
"""


def cli_reference() -> str:
    """Return the whole document as Markdown."""
    app = command(VERBS)
    parts = [_HEAD]
    group = ""
    for name, verb in VERBS.items():
        if verb.group != group:
            group = verb.group
            parts.append(f"## {group}\n")
        if name == "node":
            parts.append(_node())
            continue
        found = app.commands[name]
        parts.append(_verb(f"kvlab {name}", found))
        for inner, sub in getattr(found, "commands", {}).items():
            parts.append(_verb(f"kvlab {name} {inner}", sub))
    return "\n".join(parts)


def _verb(title: str, found: Any) -> str:
    """Describe one command of the app."""
    text, _, examples = (found.help or "").replace("\b\n", "").partition("Examples:\n")
    usage = " ".join([title, *_usage(found)])
    parts = [f"### {title}\n", _prose(text), f"\n```text\n{usage}\n```\n"]
    rows = list(_rows(found.params))
    if rows:
        parts.append(_table(rows))
    if examples.strip():
        lines = "\n".join(line.strip() for line in examples.strip().splitlines())
        parts.append(f"```text\n{lines}\n```\n")
    return "\n".join(parts)


def _prose(text: str) -> str:
    """Return paragraphs with one sentence's worth of lines joined, as Markdown has them."""
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))


def _usage(found: Any) -> Iterator[str]:
    if any(_is_option(param) for param in found.params):
        yield "[OPTIONS]"
    for param in found.params:
        if not _is_option(param):
            name = str(param.make_metavar(_context(found)))
            yield name if param.required or name.startswith("[") else f"[{name}]"


def _context(found: Any) -> Any:
    return found.context_class(found)


def _is_option(param: Any) -> bool:
    return bool(param.param_type_name == "option")


def _rows(params: Iterable[Any]) -> Iterator[tuple[str, str, str]]:
    for param in params:
        if getattr(param, "hidden", False):
            continue
        if not _is_option(param):
            if param.help:
                yield f"`{param.metavar or param.name.upper()}`", param.help, ""
            continue
        names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
        yield names, param.help or "", _default(param)


def _default(param: Any) -> str:
    shown = param.show_default
    if shown is False or param.default is None:
        return f"{shown}" if isinstance(shown, str) else ""
    if isinstance(shown, str):
        return str(shown)
    if isinstance(param.default, bool):
        if not param.secondary_opts:
            return ""
        return str(param.opts[0] if param.default else param.secondary_opts[0])
    return str(param.default)


def _node() -> str:
    """Describe `kvlab node`, which has a parser of its own."""
    parser = node_parser()
    rows = [
        (
            ", ".join(f"`{name}`" for name in action.option_strings),
            action.help or ", ".join(map(str, action.choices or ())),
            "" if action.default in (None, "", [], 0, argparse.SUPPRESS) else f"{action.default}",
        )
        for action in parser._actions  # noqa: SLF001 (argparse has no public way to list them)
        if action.help != argparse.SUPPRESS and action.dest != "help"
    ]
    examples = (parser.epilog or "").partition("examples:\n")[2]
    lines, _, rest = examples.partition("\n\n")
    shown = "\n".join(line.strip() for line in lines.splitlines())
    return "\n".join(
        (
            "### kvlab node\n",
            f"{parser.description}\n\n{_prose(rest)}\n",
            "```text\nkvlab node --id ID --addr HOST:PORT [OPTIONS]\n```\n",
            _table(rows),
            f"```text\n{shown}\n```\n",
        )
    )


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    lines = ["| argument or option | meaning | default |", "| --- | --- | --- |"]
    for row in rows:
        cells = (" ".join(cell.split()).replace("|", "\\|") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(cli_reference(), end="")
