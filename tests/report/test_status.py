from __future__ import annotations

import copy
from typing import Any

from kvlab.report.status import proof_table, status_table, unsupervised_status
from kvlab.report.table import plain

INFO: dict[str, Any] = {
    "id": "server1", "cluster": "demo", "epoch": 4, "incarnation": 1, "pid": 101,
    "uptime_us": 61_000_000, "ready": True, "keys": 12345, "bytes": 2 << 20, "connections": 5,
    "peers": {"server2": "up", "server3": "down"}, "ranges": 256, "moving": 3,
    "counters": {"get": 1},
}  # fmt: skip
STATUS: dict[str, Any] = {
    "name": "demo", "pid": 99, "uptime_us": 3_600_000_000, "spec": "/x/cluster.yaml",
    "faults": [{"id": 1, "kind": "partition", "detail": "server1 | server2", "since_us": 5,
                "links": [], "evidence": {}}],
    "nodes": [
        {"id": "server1", "state": "running", "pid": 101, "host": "127.0.0.1", "port": 8081,
         "advertise": "127.0.0.1:9081", "uptime_us": 61_000_000, "cpu_percent": 3.4,
         "rss_bytes": 18 << 20, "restarts": 0, "last_exit": None, "node": INFO},
        {"id": "server2", "state": "crashed", "pid": None, "host": "127.0.0.1", "port": 8082,
         "advertise": "127.0.0.1:9082", "uptime_us": 0, "cpu_percent": 0.0, "rss_bytes": 0,
         "restarts": 2, "last_exit": "signal 9 (SIGKILL)", "node": None},
        {"id": "server3", "state": "running", "pid": 103, "host": "127.0.0.1", "port": 8083,
         "advertise": "127.0.0.1:9083", "uptime_us": 1_000, "cpu_percent": 0.0,
         "rss_bytes": 1 << 20, "restarts": 0, "last_exit": None, "node": None},
    ],
}  # fmt: skip


def test_the_status_table_in_a_pipe() -> None:
    expected = """\
demo: 2 of 3 nodes running, epoch 4, 1 fault, supervisor 99 up 1h
NODE     STATE      PID  ADDRESS         UPTIME  CPU  MEMORY    KEYS  DATA  RANGES  MOVING  CLIENTS  EPOCH  PEERS DOWN  RESTARTS  LAST EXIT
server1  running    101  127.0.0.1:8081   1.02m   3%    18mb  12,345   2mb     256       3        5      4  server3            0  -
server2  crashed      -  127.0.0.1:8082       -    -       -       -     -       -       -        -      -  -                  2  signal 9 (SIGKILL)
server3  no answer  103  127.0.0.1:8083     1ms   0%     1mb       -     -       -       -        -      -  -                  0  -
fault 1: partition server1 | server2"""  # noqa: E501

    assert plain(status_table(STATUS)) == expected


def test_nodes_of_different_epochs_are_named_in_the_headline() -> None:
    status = copy.deepcopy(STATUS)
    status["nodes"][2]["node"] = {**INFO, "id": "server3", "epoch": 5}

    assert "epochs 4,5" in plain(status_table(status)).splitlines()[0]


def test_a_node_that_answers_but_is_not_ready_is_starting() -> None:
    status = copy.deepcopy(STATUS)
    status["nodes"][0]["node"]["ready"] = False

    assert plain(status_table(status)).splitlines()[2].split()[1] == "starting"


def test_a_cluster_that_kvlab_did_not_start_has_the_same_table() -> None:
    addresses = {"server1": "10.0.0.1:8081", "server2": "10.0.0.2:8081"}
    status = unsupervised_status(addresses, {"server1": INFO, "server2": None})
    lines = plain(status_table(status)).splitlines()

    assert lines[0] == "demo: 1 of 2 nodes running, epoch 4, no faults"
    assert lines[2].split()[:4] == ["server1", "running", "101", "10.0.0.1:8081"]
    assert lines[3].split()[:4] == ["server2", "unreachable", "-", "10.0.0.2:8081"]


def test_the_proof_of_a_node_verb_in_a_pipe() -> None:
    answer = {
        "targets": ["server2"],
        "proof": [
            {"id": "server2", "before": "running", "after": "crashed", "pid": 102,
             "took_us": 2_100, "note": "signal 9 (SIGKILL)"},
        ],
    }  # fmt: skip
    expected = """\
NODE     BEFORE   AFTER    PID   TOOK  NOTE
server2  running  crashed  102  2.1ms  signal 9 (SIGKILL)"""

    assert plain(proof_table(answer)) == expected


def test_what_nodes_lack_stands_below_the_table() -> None:
    status = copy.deepcopy(STATUS)
    status["nodes"][0]["node"] |= {"refusal": "cannot append: no space left"}
    status["nodes"][2]["node"] = INFO | {"ready": False, "waits_for": "this node is starting"}

    assert plain(status_table(status)).splitlines()[-3:-1] == [
        "server1 takes no writes: cannot append: no space left",
        "server3: this node is starting",
    ]


def test_ranges_on_their_way_say_how_far_they_are() -> None:
    status = copy.deepcopy(STATUS)
    one = {"source": "", "keys": 0, "bytes": 0, "left_bytes": -1, "waits_for": ""}
    status["nodes"][0]["node"]["movements"] = [
        *({**one, "range": n, "phase": "waiting", "waits_for": "its turn"} for n in range(20)),
        {**one, "range": 30, "phase": "copying", "source": "server2", "left_bytes": 3 << 20},
        {**one, "range": 31, "phase": "giving", "waits_for": "server3 to serve it"},
    ]

    assert plain(status_table(status)).splitlines()[5:8] == [
        "server1: 20 waiting (ranges 0,1,2,3,4,5,6,7,...), waits for its turn",
        "server1: 1 copying (range 30), from server2, 3mb left",
        "server1: 1 giving (range 31), waits for server3 to serve it",
    ]
