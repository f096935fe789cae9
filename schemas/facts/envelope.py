"""What every fact carries, and how a personal field is held (DESIGN.md section 2)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sealed:
    """A personal field, encrypted under its subject's key; unreadable once that key is gone."""

    key_id: str
    nonce: bytes
    data: bytes


#: A personal field: the plain bytes, or the same sealed.
Sealable = bytes | Sealed


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who wrote a fact, when, and in answer to what.

    `cause` names the fact ("topic/partition/offset") or the request that this one answers. `idempotency_key` makes a
    retry harmless: the first fact of a partition with a key counts, later ones are its duplicates. A received PDU has
    none: its event id is it.
    """

    recorded_at_ms: int
    writer: str
    writer_version: str
    cause: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """What happened. Subclasses are the kinds of fact; each has an Avro schema of its own under schemas/avro."""

    envelope: Envelope
