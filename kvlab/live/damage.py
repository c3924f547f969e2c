"""Damages the folder of a node that does not run, as a bad disk would. For the laboratory alone."""

from __future__ import annotations

from pathlib import Path

from kvlab.rng import Rng
from kvlab.storage.frame import HEADER_BYTES, Frame, parse_header, place_of, scan
from kvlab.storage.log import parse_name

BYTE_BITS = 8


def flip_bit(folder: Path, rng: Rng) -> dict[str, int | str] | None:
    """Turn a bit over in what the log knows to be durable; return where, None if there is no such bit.

    Not in what it does not know of: a damaged end looks as if a crash had torn it.
    """
    data = {
        number: (path, path.read_bytes())
        for path in folder.iterdir()
        for kind, number in (parse_name(path.name),)
        if kind == "log"
    }
    last, end = place_of(max((_told(raw) for _, raw in data.values()), default=0))
    ends = {n: end if n == last else len(raw) for n, (_, raw) in data.items() if n <= last}
    found = sorted(number for number, size in ends.items() if size > HEADER_BYTES)
    if not found:
        return None
    number = rng.choice(found)
    path, raw = data[number]
    offset, bit = rng.randrange(HEADER_BYTES, ends[number]), rng.randrange(BYTE_BITS)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([raw[offset] ^ (1 << bit)]))
    return {"file": path.name, "offset": offset, "bit": bit}


def _told(data: bytes) -> int:
    """Return the greatest position that a frame of a file says was durable."""
    header = parse_header(data)
    if header is None:
        return 0
    return max((one.synced for one in scan(header, data) if isinstance(one, Frame)), default=0)
