"""A node's wish to be taken into the cluster: checked, and the map that grants it.

It does not decide whether or when a wish is granted: that is `membership`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import msgspec

from kvlab.ring import change
from kvlab.ring.cluster_map import ClusterMap
from kvlab.wire.peer import INT_MAX, Address, Id, Name

WEIGHT_MAX = 1000.0


class Wish(msgspec.Struct, frozen=True):
    """Who wants to be taken in; `incarnation` tells one life of a node from the next."""

    id: Annotated[Id, msgspec.Meta(min_length=1)]
    address: Address
    client_address: Address
    incarnation: Annotated[int, msgspec.Meta(ge=1, le=INT_MAX)]
    weight: Annotated[float, msgspec.Meta(gt=0, le=WEIGHT_MAX)]
    rack: Name


def parse_wish(info: Any) -> Wish:
    """Check what came in a frame; raises ValueError that says what is wrong."""
    return msgspec.convert(info, Wish)


def grant(current: ClusterMap, wish: Wish) -> ClusterMap:
    """Return the map that names this life of the node; `current` if it names it, or a later one.

    Raises UsageError or ValueError where the ring cannot take it.
    """
    known = current.member(wish.id)
    if known is not None and known.incarnation >= wish.incarnation:
        return current
    if known is None:
        new = change.join(
            current,
            wish.id,
            wish.address,
            client_address=wish.client_address,
            weight=wish.weight,
            rack=wish.rack,
        )
    else:
        new = change.restart(current, wish.id, wish.address, wish.client_address)
    members = tuple(
        replace(one, incarnation=wish.incarnation) if one.id == wish.id else one
        for one in new.members
    )
    return replace(new, members=members)
