"""Which partition a key belongs to: the same on every back-end, for a log's whole life."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256


@lru_cache(maxsize=65_536)
def partition_of(key: str | bytes, count: int) -> int:
    """SHA-256 of the key (a string as UTF-8), as a big-endian number, modulo the number of partitions."""
    if count < 1:
        raise ValueError(f"a topic has at least one partition, not {count}")
    # Lone surrogates cannot come from valid JSON text, but an identifier must never raise here.
    data = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    return int.from_bytes(sha256(data).digest(), "big") % count
