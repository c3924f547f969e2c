"""The simulated world: the same nodes and clients under virtual time, network and disk; one seed.

It is not a model of the node: hosts here run the very modules that real servers run, and the same
bytes pass between them. One thread, no sockets, no clock of the machine.

    clock      virtual time: what happens next
    network    ordered streams between hosts: delay, stall, reset, refuse, hang; stream has their ends
    disk       what is written, what is synced, and what a power cut leaves (pages, disk_faults)
    host       one machine: its clock, its process (up, paused, down), the shell of its node (ends)
    client     what drives a node over its client port, and writes the history
    watch      what must hold at every moment; coverage names the states that should be met
    rest       when nodes have come to rest
    world      all of it together, and the faults it can suffer
    draw       a seed -> a scenario; stress has small ones that press on one thing
    run        a scenario -> an outcome
    shrink     a failing scenario -> the least that fails
    trace      what happened -> rows, message by message
    mutants    planted bugs (sins), and how often each is found (rates)
"""
