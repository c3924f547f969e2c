"""The shell of the store: one node or one client on real sockets, files and clock."""
