"""Placement: key -> slot -> range -> replicas. Pure values and functions.

It sends nothing, stores nothing and knows no node: `kv` acts on the maps that are made here.

    slot         key -> slot, as Redis Cluster counts them
    cluster_map  the one versioned value that every node serves from
    quota        how many copies each member should hold, and the least that must move
    claim        the assignment that moves that least
    change       join, leave, restart, commit, abort: map -> next map
    movement     what differs between two assignments, weighed
    balance      shares of each node, and how even they are
    placement    other ways to place keys, to compare with
    plan         before and after of a change that nobody has made yet
"""
