"""Fingerprints of room states: equal fingerprints, equal states, across generations and servers.

The sum, modulo 2^2048, of SHAKE-256 over the entries of a state: O(1) a change, whatever the order of the changes. (A
sum modulo 2^256 could be forged by a generalised birthday attack.) The sum is stored with each state; its SHA-256 is
what decisions carry.
"""

from __future__ import annotations

from hashlib import sha256, shake_256

from annals.matrix.canonical_json import checked_bytes
from annals.matrix.events import StateKey

SUM_BYTES = 256
_MODULUS = 1 << (8 * SUM_BYTES)
EMPTY_SUM = 0


def element(key: StateKey, event_id: str) -> int:
    """The number that stands for one entry of a state."""
    # Strings need no look into them; those of a whole room are many.
    entry = checked_bytes([key[0], key[1], event_id])
    return int.from_bytes(shake_256(entry).digest(SUM_BYTES), "big")


def changed_sum(total: int, key: StateKey, old_event_id: str | None, new_event_id: str | None) -> int:
    """The sum after `key` went from one event (or none) to another (or none)."""
    if old_event_id is not None:
        total -= element(key, old_event_id)
    if new_event_id is not None:
        total += element(key, new_event_id)
    return total % _MODULUS


def sum_bytes(total: int) -> bytes:
    """The sum as it is stored: 256 bytes, big endian."""
    return total.to_bytes(SUM_BYTES, "big")


def sum_of(stored: bytes) -> int:
    """The sum from its stored form."""
    return int.from_bytes(stored, "big")


def fingerprint(total: int) -> bytes:
    """32 bytes that stand for the whole state."""
    return sha256(sum_bytes(total)).digest()
