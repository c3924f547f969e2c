"""Builds the typer app out of the modules of the wanted verbs. It holds no verb itself.

Invariants:

1. Only the modules of the wanted verbs are imported: one for a normal call, all for the help.
2. Each module adds its verbs through `register(app)`; group and order come from registry.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable
from typing import Annotated

import typer
import typer.main
from typer.core import TyperGroup

from kvlab.cli.registry import EXAMPLES, VERBS

_HELP = """A replicated key-value store, and the laboratory that breaks it.

Examples:
  {examples}
"""


def build(verbs: Iterable[str] = tuple(VERBS)) -> typer.Typer:
    """Return an app with (at least) `verbs`."""
    app = typer.Typer(
        name="kvlab",
        help=help_text(_HELP.format(examples="\n  ".join(EXAMPLES))),
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        # Boxes and colours are for people; a pipe gets plain help.
        rich_markup_mode="rich" if sys.stdout.isatty() else None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for module in dict.fromkeys(VERBS[name].module for name in verbs):
        _register(app, module)
    _arrange(app)
    return app


def _root(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    # A callback keeps the app a group even when it holds a single verb. Both options are listed
    # here for the help only: main() takes them off the command line before.
    del debug, version


def command(verbs: Iterable[str]) -> TyperGroup:
    """Return the command that runs `verbs`; its `main` parses, runs and raises SystemExit."""
    group = typer.main.get_command(build(verbs))
    assert isinstance(group, TyperGroup)
    return group


def _register(app: typer.Typer, module: str) -> None:
    if not module:
        app.command("node", add_help_option=False)(_node)
        return
    name = f"kvlab.cli.{module}"
    if importlib.util.find_spec(name):
        importlib.import_module(name).register(app)


def _node() -> None:
    """Run one node as an ordinary server, without a supervisor."""
    # Only listed here: main() hands `kvlab node ...` to kvlab.live before typer is loaded.
    raise AssertionError("kvlab node is dispatched before the app is built")


def _arrange(app: typer.Typer) -> None:
    """Put the verbs into the registry's order and groups, and keep their examples as written."""
    order = list(VERBS)
    app.registered_commands.sort(key=lambda command: order.index(command.name or ""))
    for command in app.registered_commands:
        command.rich_help_panel = VERBS[command.name or ""].group
        command.help = help_text(command.callback.__doc__ if command.callback else None)
    for group in app.registered_groups:
        group.rich_help_panel = VERBS[str(group.name)].group
        inner = group.typer_instance
        if inner is None:
            continue
        if inner.registered_callback and inner.registered_callback.callback:
            group.help = help_text(inner.registered_callback.callback.__doc__)
        for command in inner.registered_commands:
            command.help = help_text(command.callback.__doc__ if command.callback else None)


def help_text(docstring: str | None) -> str:
    """Return a verb's docstring as its help, with the lines of its examples left as they are."""
    text = inspect.cleandoc(docstring or "")
    # To typer, a paragraph that begins with a backspace is not to be filled.
    return text.replace("\n\nExamples:\n", "\n\n\b\nExamples:\n")
