"""The commands of `kvlab client`, as they are shown and counted. What they do is in `repl`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its arguments as they are shown, what it does, and how many it takes."""

    usage: str
    help: str
    arguments: int
    optional: int = 0


COMMANDS: Final[dict[str, Command]] = {
    "GET": Command("GET key", "Print the value of a key.", 1),
    "SET": Command("SET key value", "Write a value. Quote one with blanks: \"a b\" or 'a b'.", 2),
    "DELETE": Command("DELETE key", "Delete a key.", 1),
    "CAS": Command(
        "CAS key old new", "Write a value if the present one is old. See --ns linear.", 3
    ),
    "INCR": Command("INCR key [number]", "Add to a whole number. See --ns linear.", 1, 1),
    "APPEND": Command("APPEND key value", "Write at the end of a value. See --ns linear.", 2),
    "SETNX": Command("SETNX key value", "Write a value if there is none. See --ns linear.", 2),
    "PING": Command("PING", "Ask whether the node serves.", 0),
    "STATUS": Command("STATUS", "Show what the node says of itself.", 0),
    "HELP": Command("HELP [command]", "Explain the commands.", 0, 1),
    "EXIT": Command("EXIT", "Leave; so do QUIT and Ctrl-D.", 0),
    "QUIT": Command("QUIT", "Leave.", 0),
}
HELP_END: Final = (
    'Commands may be written in any case. Escapes in "...": \\n \\t \\r \\0 \\" \\\\ \\xHH '
    "\\uHHHH.\nIn a pipe, blank lines and lines that begin with # are skipped."
)
