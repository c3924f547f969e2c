"""The node, without I/O: (event, now) -> effects. Not its sockets, files and clock: see `live`."""
