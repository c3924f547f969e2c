"""Bytes <-> messages: JSON lines for clients, frames for peers, and telling protocols apart.

It does no I/O and knows no clock: bytes that came in, values that go out, and the reverse.

    sniff          which protocol a connection speaks, from its first bytes
    limits         what a message may weigh
    json_lines     the client protocol: JsonReader, ReplyReader, encoders
    json_*         its parts, in reading order: messages, scan, stream, normal, encode
    peer           the frames between nodes

This file imports nothing, so that a process loads only the protocol it speaks.
"""
