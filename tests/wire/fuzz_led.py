"""The targets of fuzz.py under atheris, which leads the bytes by coverage. See scripts/fuzz."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["kvlab"]):
    from .fuzz import TARGETS

if __name__ == "__main__":
    kind, seconds = sys.argv[1:]
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096"], TARGETS[kind])
    atheris.Fuzz()
