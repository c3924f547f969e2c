r"""The words of a command line: blanks separate, quotes and backslashes keep together.

It knows no command. A line is words between blanks. `"..."` takes blanks and the escapes of
ESCAPES, `'...'` takes everything as it stands, and outside of quotes `\` takes the next character
as it stands. Pieces that touch are one word, as in a shell.

Invariant: `split_words(quote(text)) == [text]` for every text that has an encoding.
"""

from __future__ import annotations

from typing import Final

from kvlab.errors import UsageError

ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", '"': '"', "'": "'", "\\": "\\"}
_ESCAPED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
_HEX_DIGITS: Final = {"x": 2, "u": 4, "U": 8}


def split_words(line: str) -> list[str]:
    """Split a line into words as the module's docstring says; raise UsageError."""
    words: list[str] = []
    word: list[str] | None = None
    at = 0
    while at < len(line):
        char = line[at]
        if char.isspace():
            if word is not None:
                words.append("".join(word))
                word = None
            at += 1
            continue
        word = [] if word is None else word
        if char in "\"'":
            piece, at = _quoted(line, at)
            word.append(piece)
        elif char == "\\":
            if at + 1 == len(line):
                raise UsageError("the line ends with a backslash", hint=r"write \\ for a backslash")
            word.append(line[at + 1])
            at += 2
        else:
            word.append(char)
            at += 1
    if word is not None:
        words.append("".join(word))
    return words


def quote(text: str) -> str:
    """Write `text` so that split_words reads it as one word, on one line, printable."""
    if text and text[0] != "#" and text.isprintable() and not set(text) & set(" \"'\\"):
        return text
    return '"' + "".join(escaped(char) for char in text) + '"'


def escaped(char: str) -> str:
    """Write one character so that a terminal shows it and split_words reads it in quotes."""
    if char in _ESCAPED:
        return _ESCAPED[char]
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def _quoted(line: str, start: int) -> tuple[str, int]:
    """Read the quoted piece at `start`; return it and where it ended."""
    mark, at = line[start], start + 1
    piece: list[str] = []
    while at < len(line):
        char = line[at]
        if char == mark:
            return "".join(piece), at + 1
        if char == "\\" and mark == '"':
            char, at = _escape(line, at + 1)
        else:
            at += 1
        piece.append(char)
    raise UsageError(
        f"the quote {mark} is never closed", hint=f"end the value with {mark}, or write \\{mark}"
    )


def _escape(line: str, at: int) -> tuple[str, int]:
    """Read the escape whose letter stands at `at`; return the character and where it ended."""
    letter = line[at : at + 1]
    if letter in ESCAPES:
        return ESCAPES[letter], at + 1
    digits = line[at + 1 : at + 1 + _HEX_DIGITS.get(letter, 0)]
    if letter in _HEX_DIGITS and len(digits) == _HEX_DIGITS[letter]:
        try:
            char = chr(int(digits, 16))
            char.encode()  # half of a surrogate pair is no character
        except (ValueError, OverflowError):
            pass
        else:
            return char, at + 1 + len(digits)
    raise UsageError(
        f"\\{letter}{digits} is not an escape",
        hint=r"""between "..." write \\ for a backslash, or use '...', which takes no escapes""",
    )
