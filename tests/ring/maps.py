"""Maps for the tests of this room."""

from __future__ import annotations

from kvlab.ring.change import first_map


def founders(count):
    return [(f"server{number}", f"h:{number}") for number in range(1, count + 1)]


def cluster(count, replication=3, range_count=64):
    return first_map("lab", founders(count), replication, range_count)
