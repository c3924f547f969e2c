"""A replicated key-value store with consistent hashing, and the laboratory that breaks it.

The rooms, in reading order:

    ring      placement: key -> slot -> range -> replicas; claim, cluster map, movement, balance
    wire      bytes <-> messages
    storage   the table that a node keeps
    kv        the node: (event, now) -> effects
    live      shell: one node or one client on real sockets, files and clock
    fault     what can go wrong, as values
    workload  what clients do
    lab       shell: supervisor, child processes, link shims, control socket, load
    engine    what the laboratory can run
    check     was it correct?
    report    what to show
    cli       verbs only

This file imports nothing, so that a node process loads only what it needs.
"""

__version__ = "0.1.0"
