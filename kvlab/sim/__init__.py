"""The simulated world: the same nodes and clients under virtual time, network and disk; one seed.

It is not a model of the node: hosts here run the very modules that real servers run, and the same
bytes pass between them. One thread, no sockets, no clock of the machine.

    clock     virtual time: what happens next
    network   ordered streams between hosts: delay, stall, reset, refuse, hang
    disk      what is written, what is synced, and what a power cut leaves
    host      one machine: its clock, its process (up, paused, down), the shell of its node
    client    what drives a node over its client port, and writes the history
    world     all of it together, and the faults it can suffer
    draw      a seed -> a scenario
    run       a scenario -> an outcome
"""
