"""What clients do: which keys, which operations, which values, and when.

It is not a client: it sends nothing, reads no clock, and draws only from the Rng it is given.

    keys      choosers (uniform, zipfian, latest, sequential) over a KeySpace
    mix       shares of each operation; the YCSB presets
    values    values that are unique by construction
    stream    units of work: requests, and those that follow when they are answered
    arrivals  when an open loop means to send
"""
