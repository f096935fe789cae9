"""What can go wrong with the shape of a record."""

from __future__ import annotations


class SchemaError(Exception):
    """Root of all errors of this package."""


class Unencodable(SchemaError):
    """A fact does not fit its schema: a field of a wrong type, or an integer of more than 64 bits."""


class Undecodable(SchemaError):
    """A record is no single-object encoding, is torn, or does not fit the schema that it names."""


class UnknownSchema(Undecodable):
    """A record names a schema that is neither committed here nor learned, or a kind of fact that this code lacks."""


class SchemaMismatch(SchemaError):
    """A dataclass and its newest .avsc differ (a new version has to be written), or a schema is misnamed."""


class TornParts(Undecodable):
    """Parts of a record that came out of order, or whose bytes do not add up to the record they name."""


class KeyGone(SchemaError):
    """The subject's key has been erased: what was sealed under it cannot be read by anybody any more."""


class SealBroken(SchemaError):
    """A sealed field does not open: another key, another subject or field, or bytes that were altered."""
