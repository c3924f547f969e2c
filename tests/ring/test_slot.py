"""Slots against the check value of CRC16/XMODEM, Redis's published examples and a second CRC."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kvlab.ring.slot import SLOT_COUNT, slot_of, tag_of


def crc16_by_definition(data: bytes) -> int:
    """Shift register of CRC16/XMODEM: polynomial 0x1021, start 0, no reflection."""
    register = 0
    for byte in data:
        register ^= byte << 8
        for _ in range(8):
            register = (register << 1) ^ (0x1021 if register & 0x8000 else 0)
            register &= 0xFFFF
    return register


def test_the_check_value_of_crc16_is_met():
    assert crc16_by_definition(b"123456789") == 0x31C3
    assert slot_of(b"123456789") == 0x31C3 % SLOT_COUNT


@settings(deadline=None)
@given(st.binary(max_size=40).filter(lambda key: b"{" not in key))
def test_a_key_without_a_brace_is_hashed_whole(key):
    assert slot_of(key) == crc16_by_definition(key) % SLOT_COUNT


def test_slots_known_from_redis_are_reproduced():
    assert slot_of(b"foo") == 12182
    assert slot_of(b"bar") == 5061
    assert slot_of(b"") == 0


def test_only_a_non_empty_tag_decides():
    # The examples of the Redis Cluster specification.
    assert tag_of(b"{user1000}.following") == b"user1000"
    assert tag_of(b"foo{}{bar}") == b"foo{}{bar}"
    assert tag_of(b"foo{{bar}}zap") == b"{bar"
    assert tag_of(b"foo{bar}{zap}") == b"bar"
    assert tag_of(b"foo{bar") == b"foo{bar"
    assert tag_of(b"}foo{bar") == b"}foo{bar"
    assert tag_of(b"plain") == b"plain"


@settings(deadline=None)
@given(
    st.binary(max_size=8).filter(lambda text: b"{" not in text),
    st.binary(min_size=1, max_size=8).filter(lambda text: b"}" not in text),
    st.binary(max_size=8),
)
def test_keys_with_one_tag_share_a_slot(before, tag, after):
    expected = crc16_by_definition(tag) % SLOT_COUNT
    assert slot_of(before + b"{" + tag + b"}" + after) == expected
