"""What one message may weigh, with a name and a unit for every bound.

It does not enforce them: the readers do, each as early as it can.
"""

from __future__ import annotations

import msgspec

KIB = 1024
MIB = 1024 * KIB

DOCUMENT_LIMIT_BYTES = 16 * MIB
KEY_LIMIT_BYTES = 64 * KIB
VALUE_LIMIT_BYTES = 8 * MIB
DEPTH_LIMIT = 32
"""How many objects and arrays may be open at once in one document."""

FIELDS_LIMIT = 64
"""How many fields a document with unusual field names may have (DESIGN 8 knows about 20)."""

COPIES_LIMIT = 1024
"""The largest `r` or `w` that a request may ask for; far beyond any replication factor."""

TIMEOUT_LIMIT_MS = 3_600_000
"""The longest `timeout_ms` that a request may ask for: one hour."""


TTL_LIMIT_MS = 100 * 366 * 86_400_000
"""The longest time that a value may live after which it ends by itself: a hundred years."""


class Limits(msgspec.Struct, frozen=True):
    """The bounds of one reader. Tests make them small; a node keeps the defaults."""

    document_bytes: int = DOCUMENT_LIMIT_BYTES
    key_bytes: int = KEY_LIMIT_BYTES
    value_bytes: int = VALUE_LIMIT_BYTES
    depth: int = DEPTH_LIMIT

    @property
    def unchecked_bytes(self) -> int:
        """A batch of this size or less cannot hold a document, key or value over its limit."""
        return min(self.document_bytes, self.key_bytes, self.value_bytes)


DEFAULT_LIMITS = Limits()
