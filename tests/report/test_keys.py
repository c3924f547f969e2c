from __future__ import annotations

from typing import Any

import pytest

from kvlab.report.keys import key_facts, keys_table
from kvlab.report.table import plain


def info(version: str = "", *, size: int = 0, tombstone: bool = False) -> dict[str, Any]:
    return {
        "slot": 100, "range": 1, "owners": ["server1", "server2", "server3"], "next": None,
        "present": bool(version) and not tombstone, "tombstone": tombstone, "version": version,
        "bytes": size,
    }  # fmt: skip


INSPECTED = {
    "server1": info("100", size=10),
    "server2": info("99", size=9),
    "server3": info(),
    "server4": info("100", size=10),
    "server5": None,
    "server6": info(),
}


def test_each_node_is_told_apart_by_what_it_holds() -> None:
    facts = key_facts("city", INSPECTED)
    states = {node["id"]: (node["role"], node["state"]) for node in facts["nodes"]}

    assert states == {
        "server1": ("owner", "present"),
        "server2": ("owner", "stale"),
        "server3": ("owner", "missing"),
        "server4": ("other", "extra"),
        "server5": ("other", "no answer"),
    }


def test_the_keys_table_in_a_pipe() -> None:
    expected = """\
KEY   SLOT  RANGE  NODE     ROLE   STATE      MARK  VERSION  SIZE
city   100      1  server1  owner  present    -     100       10b
city   100      1  server2  owner  stale      -     99         9b
city   100      1  server3  owner  missing    -     -           -
city   100      1  server4  other  extra      -     100       10b
city   100      1  server5  other  no answer  -     -           -"""

    assert plain(keys_table([key_facts("city", INSPECTED)])) == expected


def test_a_key_that_nobody_has_is_absent_and_not_missing() -> None:
    facts = key_facts("city", {name: info() for name in ("server1", "server2", "server3")})

    assert {node["state"] for node in facts["nodes"]} == {"absent"}


def test_a_deleted_key_shows_its_tombstones() -> None:
    gone = {name: info("101", tombstone=True) for name in ("server1", "server2", "server3")}
    lines = plain(keys_table([key_facts("city", gone)])).splitlines()

    assert all("deleted" in line and "101" in line for line in lines[1:])


def test_a_node_that_takes_the_range_over_is_not_missing_the_key_yet() -> None:
    moving = {**info("99", size=1), "next": ["server1", "server4"]}
    empty = {**info(), "next": ["server1", "server4"]}
    facts = key_facts(
        "city", {"server1": moving, "server2": moving, "server3": moving, "server4": empty}
    )

    assert facts["next"] == ["server1", "server4"]
    assert ("next", "absent") in [(node["role"], node["state"]) for node in facts["nodes"]]
    assert "moving to server1, server4" in plain(keys_table([facts]))


def test_without_any_answer_there_are_no_facts() -> None:
    with pytest.raises(ValueError, match="no node answered"):
        key_facts("city", {"server1": None})
