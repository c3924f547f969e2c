"""Every verb of `kvlab`: its group, its one line of help and the module that holds it. A literal.

It imports nothing of ours, so that `kvlab --help` and the choice of what to load cost nothing.
A test holds it against the app: each verb exists there, with the same first line.
"""

from __future__ import annotations

from dataclasses import dataclass

CLUSTER = "Cluster"
NODES = "Nodes"
NETWORK = "Network"
DATA = "Data"
LOAD = "Load"
JUDGE = "Judge"
SERVE = "Serve"


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: what `kvlab --help` says of it, and where `register(app)` adds it."""

    group: str
    module: str
    summary: str


VERBS: dict[str, Verb] = {
    "up": Verb(CLUSTER, "lifecycle", "Start the cluster of cluster.yaml and wait until it serves."),
    "down": Verb(CLUSTER, "lifecycle", "Stop the cluster; no process, socket or lock remains."),
    "status": Verb(CLUSTER, "status", "Show every node: state, process, data, peers it misses."),
    "logs": Verb(CLUSTER, "status", "Show the logs of one node or of all, merged by time."),
    "add": Verb(CLUSTER, "lifecycle", "Start one more node and let data move to it."),
    "remove": Verb(CLUSTER, "lifecycle", "Let a node hand over its data, then stop it for good."),
    "doctor": Verb(
        CLUSTER, "doctor", "Examine this machine: what clusters need of it, and what is slow."
    ),
    "reap": Verb(CLUSTER, "lifecycle", "Find and end what a dead supervisor left behind."),
    "demo": Verb(CLUSTER, "demo", "Start, load, break, heal and inspect a cluster by itself."),
    "kill": Verb(NODES, "nodes", "Kill nodes at once, as a crash would (SIGKILL)."),
    "stop": Verb(NODES, "nodes", "Stop nodes gracefully; they stay stopped."),
    "start": Verb(NODES, "nodes", "Start nodes that are stopped or dead."),
    "restart": Verb(NODES, "nodes", "Stop nodes gracefully and start them again."),
    "pause": Verb(NODES, "nodes", "Freeze nodes; their sockets stay open (SIGSTOP)."),
    "resume": Verb(NODES, "nodes", "Let paused nodes run on (SIGCONT)."),
    "partition": Verb(NETWORK, "network", "Cut the network between groups of nodes, or one way."),
    "link": Verb(
        NETWORK, "network", "Make the link from one node to another slow, or clean again."
    ),
    "heal": Verb(NETWORK, "network", "Undo every fault of the network."),
    "faults": Verb(
        NETWORK, "network", "Show active faults with proof, and what each link carries."
    ),
    "client": Verb(DATA, "data", "Talk to a node: SET, GET and DELETE at a prompt."),
    "get": Verb(DATA, "data", "Read one key."),
    "set": Verb(DATA, "data", "Write one key."),
    "delete": Verb(DATA, "data", "Delete one key."),
    "ring": Verb(DATA, "ring", "Show how slots and actual keys spread; `ring plan` predicts."),
    "keys": Verb(DATA, "keys", "Show where keys belong and where they really are."),
    "moves": Verb(
        DATA, "keys", "Show the data each change of the ring moved, against the minimum."
    ),
    "bench": Verb(LOAD, "bench", "Drive load at a cluster or server and measure it."),
    "run": Verb(
        JUDGE,
        "run",
        "Run a scenario on real processes: a cluster of its own, clients, faults, and a verdict.",
    ),
    "matrix": Verb(
        JUDGE,
        "matrix",
        "Run scenarios under all combinations of namespaces, sizes, workloads and seeds.",
    ),
    "replay": Verb(
        JUDGE,
        "run",
        "Run once more what a run did: its operations, and its faults as they really were.",
    ),
    "sim": Verb(
        JUDGE, "sim", "Run the nodes in a simulated world: thousands of seeds, repeatable."
    ),
    "check": Verb(
        JUDGE, "check", "Judge a recorded history: what was lost, stale or out of order, and why."
    ),
    "report": Verb(
        JUDGE,
        "report",
        "Make report.html of a finished run: one file that needs no network; and say it in short.",
    ),
    "compare": Verb(
        JUDGE,
        "compare",
        "Show two runs side by side: verdicts, checks, phases with ratios, environments.",
    ),
    "node": Verb(SERVE, "", "Run one node as an ordinary server, without a supervisor."),
}

_EXAMPLES = {
    "kvlab up": "start the cluster of ./cluster.yaml",
    "kvlab set city Berlin": "write through any node",
    "kvlab keys city": "where it belongs and where it is",
    "kvlab kill server2": "break something",
    "kvlab partition server1": "cut it off from the others",
    "kvlab heal && kvlab down": "mend it and leave nothing behind",
}
EXAMPLES = tuple(
    f"{command.ljust(max(map(len, _EXAMPLES)))}  {said}" for command, said in _EXAMPLES.items()
)


def overview() -> str:
    """Return the root help as plain text: the verbs by group, then examples."""
    lines = [
        "Usage: kvlab [--debug] VERB [ARGS]...",
        "",
        "A replicated key-value store, and the laboratory that breaks it.",
    ]
    width = max(map(len, VERBS))
    group = None
    for name, verb in VERBS.items():
        if verb.group != group:
            group = verb.group
            lines += ["", f"{group}:"]
        lines.append(f"  {name.ljust(width)}  {verb.summary}")
    lines += ["", "Options:"]
    lines += ["  --debug    show the traceback of an error", "  --version  print the version"]
    lines += ["", "Examples:", *(f"  {example}" for example in EXAMPLES)]
    lines += ["", "kvlab VERB --help explains a verb, with examples."]
    return "\n".join(lines)
