"""Which protocol a connection speaks, told from its first bytes.

It reads nothing and answers nothing: the node hands the same bytes on to the reader it chooses.

One port serves everybody, so the first byte decides (a JSON document, a RESP array and the private
magic of a peer link cannot be confused). Only letters need a second look: an inline RESP command
and an HTTP request both start with one.
"""

from __future__ import annotations

import enum
import re

PEER_MAGIC = b"\xf3KVL1"
"""The first bytes of a peer link. 0xF3 starts no JSON document and no RESP message."""

_JSON_FIRST = frozenset(b"{ \t\r\n\xef")  # 0xEF opens a byte order mark
_LETTER_FIRST = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_HTTP_LINE = re.compile(rb"[A-Za-z]+ [^\n]* HTTP/1\.[0-9]\r?\n")
# What a browser or a forged page sends; Redis too hangs up on these ("POST", "Host:").
_HTTP_START = re.compile(rb"(?i:post |host:)|(?:GET|HEAD|PUT|DELETE|OPTIONS) /[^\n]*\Z")


class Protocol(enum.Enum):
    """What a connection speaks."""

    JSON = "json"
    RESP = "resp"
    PEER = "peer"
    HTTP = "http"
    UNKNOWN = "unknown"


def sniff(first: bytes) -> Protocol:
    """Name the protocol of a connection whose first bytes are `first` (one byte is enough).

    A line of letters that has not ended yet is HTTP if it looks like `GET /path`, else RESP inline.
    """
    if not first:
        return Protocol.UNKNOWN
    byte = first[0]
    if byte in _JSON_FIRST:
        return Protocol.JSON
    if byte == ord("*"):
        return Protocol.RESP
    if byte == PEER_MAGIC[0]:
        length = min(len(first), len(PEER_MAGIC))
        return Protocol.PEER if first[:length] == PEER_MAGIC[:length] else Protocol.UNKNOWN
    if byte in _LETTER_FIRST:
        http = _HTTP_LINE.match(first) or _HTTP_START.match(first)
        return Protocol.HTTP if http else Protocol.RESP
    return Protocol.UNKNOWN
