"""Lines of a terminal, made comparable: what was printed by two runs differs in its numbers."""

from __future__ import annotations

import re


def plain(line: str) -> str:
    """Return a line with every number, and the unit at it, as one sign, and without padding."""
    line = re.sub(r"[-+]?\d[\d.,]*(?: ?(?:us|ms|s|mb|kb|b|%)\b|%)?", "#", line)
    return " ".join(line.replace("[ ", "[").split())
