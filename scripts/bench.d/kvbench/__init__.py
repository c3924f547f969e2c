"""The benchmark of scripts/bench: gated, interleaved measurements beside real peers.

It is no part of the product: it starts servers as a user would, and never changes them.

    gate      waits for a quiet machine, and repeats a run that others disturbed
    stage     every process and folder of a benchmark; all end with it
    servers   starts kvlab nodes and their peers
    clients   drives load at them: lg (C), its stand-in in Python, redis-benchmark, kvlab's own
    figures   samples, lines of the table, targets
    row_*     what is measured, a module per row
"""
