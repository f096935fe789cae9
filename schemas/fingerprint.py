"""A schema's canonical form and CRC-64-AVRO fingerprint, and the ten bytes by which a record names its schema."""

from __future__ import annotations

from typing import Any

from fastavro.schema import fingerprint, to_parsing_canonical_form

MARKER = b"\xc3\x01"
PREFIX_BYTES = 10


def canonical_form(schema: dict[str, Any]) -> str:
    """Avro's parsing canonical form: names, types and order of fields, without defaults and documentation."""
    return str(to_parsing_canonical_form(schema))


def fingerprint_of(schema: dict[str, Any]) -> bytes:
    """CRC-64-AVRO of the canonical form: 8 bytes, little endian, as in a single-object encoding."""
    return bytes.fromhex(fingerprint(canonical_form(schema), "CRC-64-AVRO"))


def prefix_of(schema: dict[str, Any]) -> bytes:
    """What a record of this schema begins with: marker and fingerprint."""
    return MARKER + fingerprint_of(schema)
