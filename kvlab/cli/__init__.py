"""The command line: verbs that parse, call one function and print. No decisions are made here.

It does not load what a verb does not need: `kvlab node` never sees typer or rich, other verbs load
their own module only (see app.py), and only a terminal loads rich.

Exit codes: those of errors.py; 2 also for wrong usage, 130 when interrupted, 70 for a defect of
kvlab itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kvlab.cli.registry import VERBS, overview
from kvlab.errors import KvlabError, SpecError

EXIT_INTERRUPTED = 130
EXIT_DEFECT = 70  # EX_SOFTWARE of sysexits.h


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args and args[0] == "node":
        from kvlab.live.node import main as node_main

        return node_main(args[1:])
    debug = take_flag(args, "--debug")
    try:
        code = _dispatch(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader left (`kvlab logs | head`): no message, and none at interpreter exit either.
        from kvlab.cli.out import EXIT_PIPE_CLOSED, close_quietly

        close_quietly()
        return EXIT_PIPE_CLOSED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except KvlabError as error:
        if debug:
            raise
        print(error_text(error), file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if debug:
            raise
        print(defect_text(error), file=sys.stderr)
        return EXIT_DEFECT
    return code


def take_flag(args: list[str], flag: str) -> bool:
    """Remove `flag` from the arguments before `--` and say whether it stood there."""
    end = args.index("--") if "--" in args else len(args)
    found = flag in args[:end]
    args[:] = [arg for i, arg in enumerate(args) if i >= end or arg != flag]
    return found


def error_text(error: KvlabError) -> str:
    """Say a known error: one line, every problem of a file, and what to do next."""
    lines = [f"error: {error.message}"]
    if isinstance(error, SpecError):
        lines += [f"  {problem}" for problem in error.problems]
    if error.hint:
        lines.append(f"hint: {error.hint}")
    return "\n".join(lines)


def defect_text(error: Exception) -> str:
    """Say an error that nobody expected."""
    said = str(error).strip().split("\n")[0]
    return (
        f"error: kvlab failed unexpectedly: {type(error).__name__}{': ' if said else ''}{said}\n"
        "hint: run the same command with --debug to see where; this is a defect of kvlab"
    )


def _dispatch(args: list[str]) -> int:
    if args[:1] == ["--version"]:
        from kvlab import __version__

        print(f"kvlab {__version__}")
        return 0
    if args[:1] in ([], ["--help"], ["-h"]) and not sys.stdout.isatty():
        print(overview())
        return 0 if args else 2
    from kvlab.cli.app import command

    verb = args[0] if args else ""
    try:
        command([verb] if verb in VERBS else list(VERBS)).main(args=args, prog_name="kvlab")
    except SystemExit as exit_:
        # The app always ends this way; usage errors have been printed by then.
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return 0
