"""Sentences that several RESP commands share. It does nothing else."""

from __future__ import annotations

from kvlab.wire.resp_encode import error

SHOWN_BYTES_MAX = 128  # of what a client wrote, in an error about it


def shown(word: bytes) -> str:
    """Return what a client wrote as text that an error may hold."""
    text = word[:SHOWN_BYTES_MAX].decode("utf-8", "replace")
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def wrong_count(name: bytes) -> bytes:
    """Return the error for a command, `GET` or `CLIENT|ID`, with too few or many arguments."""
    return error(f"ERR wrong number of arguments for '{shown(name).lower()}' command")


def unknown_subcommand(command: str, word: bytes) -> bytes:
    """Return the error for a subcommand that is not there."""
    return error(f"ERR unknown subcommand '{shown(word)}' of {command}, or one not served here")
