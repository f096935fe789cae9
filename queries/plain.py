"""Personal columns whose facts are not sealed."""

from __future__ import annotations

from annals.projectors.sealables import unpacked
from annals.schemas.facts.envelope import Sealed


class StillSealed(Exception):
    """A reader without keys met a sealed field: it must learn to open it before anybody seals such fields."""


def plain(column: bytes) -> bytes:
    """The bytes of a personal column that is not sealed. Today only password hashes are."""
    value = unpacked(bytes(column))
    if isinstance(value, Sealed):
        raise StillSealed(value.key_id)
    return value
