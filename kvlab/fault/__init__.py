"""What can go wrong, as values: who is hit, which links are cut, what a link does to its bytes.

It does nothing to anybody: `lab` applies these values to real links and processes.

    selector    "one", "minority", "not(server1)" -> node ids
    partition   groups, shapes and one-way splits -> directed links to cut
    link        the rule of one directed link, and the one question asked per chunk
"""
