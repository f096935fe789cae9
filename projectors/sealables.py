"""A personal field in one bytea column: plain, or sealed as it came. Folds never open it; that is the reader's work.

0x00 data                                                plain
0x01 length(key id) key id  length(nonce) nonce  data    sealed; lengths are one byte each
"""

from __future__ import annotations

from annals.schemas.facts.envelope import Sealable, Sealed

_PLAIN, _SEALED = 0, 1


def packed(value: Sealable) -> bytes:
    """The column's bytes."""
    if not isinstance(value, Sealed):
        return bytes([_PLAIN]) + value
    key_id = value.key_id.encode()
    return bytes([_SEALED, len(key_id)]) + key_id + bytes([len(value.nonce)]) + value.nonce + value.data


def packed_or_none(value: Sealable | None) -> bytes | None:
    """The column's bytes of a field that may be missing."""
    return None if value is None else packed(value)


def unpacked(column: bytes) -> Sealable:
    """The field that `packed` was given; ValueError for bytes that it did not make."""
    if column[:1] == bytes([_PLAIN]):
        return column[1:]
    if column[:1] != bytes([_SEALED]):
        raise ValueError("neither a plain nor a sealed field")
    key_end = 2 + column[1]
    nonce_end = key_end + 1 + column[key_end]
    return Sealed(column[2:key_end].decode(), column[key_end + 1 : nonce_end], column[nonce_end:])
