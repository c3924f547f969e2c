from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from kvlab.kv.answer import LIGHT_BYTES_MAX, Batch
from kvlab.wire.json_lines import ReplyReader

STAMP = "2026-01-01T00:00:00.000Z"
texts = st.text(max_size=6)
outcomes = st.lists(
    st.tuples(
        st.sampled_from(["stored", "found", "missing", "failed", "found then failed", "degraded"]),
        texts,
        texts | st.binary(max_size=6),
    ),
    max_size=8,
)


def _play(batch: Batch, kind: str, key: str, value: str | bytes) -> None:
    """Bring one reply about as the coordinator does: a place first, its content later."""
    index = len(batch.replies)
    if kind == "stored":
        batch.acknowledge(key)
        return
    batch.replies.append(b"")
    batch.answer(index, key, None if kind == "missing" else value)
    if kind in ("failed", "found then failed"):
        batch.fail(index, key, "UNKNOWN", "outcome unknown")
    if kind == "degraded":
        batch.full(index, key).degraded = True


@given(outcomes, st.booleans())
def test_every_reply_is_at_its_place_whatever_became_of_it(some, camel):
    batch = Batch(None, STAMP, 0, camel=camel)
    for kind, key, value in some:
        _play(batch, kind, key, value)

    data = batch.encode()

    replies = ReplyReader().feed(data)
    assert len(replies) == len(some) == data.count(b"\n")
    for reply, (kind, key, value) in zip(replies, some, strict=True):
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        expected = {
            "stored": ("SUCCESS", "", ""),
            "found": ("SUCCESS", text, ""),
            "degraded": ("SUCCESS", text, ""),
            "missing": ("ERROR", "", "Key does not exist"),
        }.get(kind, ("ERROR", "", "outcome unknown"))
        assert (reply.key, reply.status, reply.value, reply.error) == (key, *expected)
        assert (reply.timestamp, reply.degraded) == (STAMP, kind == "degraded")
    for line in data.splitlines():
        assert next(iter(json.loads(line))) == ("Type" if camel else "type")


@given(st.lists(st.integers(0, 3 * LIGHT_BYTES_MAX), max_size=6))
def test_a_batch_knows_what_its_large_values_weigh(sizes):
    batch = Batch(None, STAMP, 0, camel=False)
    for index, size in enumerate(sizes):
        batch.replies.append(b"")
        batch.answer(index, "k", "v" * size)

    assert batch.heavy_bytes == sum(size for size in sizes if size > LIGHT_BYTES_MAX)


def test_bytes_that_were_made_at_once_leave_as_they_are():
    batch = Batch.of(None, b"all replies\n")

    assert (batch.encode(), batch.pending, batch.heavy_bytes) == (b"all replies\n", 0, 12)
