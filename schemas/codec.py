"""Facts to bytes and back: Avro single-object encoding (marker, schema fingerprint, body).

A record names the schema it was written with. The newest version of each fact is written and read by generated code
(`compiled`); older versions, and schemas learned from the log's `schemas` topic, are resolved by fastavro to the newest
reader, so that nobody but this module knows that versions exist.
"""

from __future__ import annotations

import json
from typing import Any

import fastavro

from annals.schemas.avro_types import schema_of
from annals.schemas.committed import SchemaFile, committed, fact_classes, newest_committed
from annals.schemas.compiled import Decoder, Encoder, decoder_of, encoder_of
from annals.schemas.errors import SchemaMismatch, Undecodable, Unencodable, UnknownSchema
from annals.schemas.fingerprint import MARKER, PREFIX_BYTES, canonical_form, fingerprint_of
from annals.schemas.plain import from_plain
from annals.schemas.resolving import read_resolving
from annals.schemas.shapes import namespace_of, shape_of


def encode(fact: object) -> bytes:
    """The record of a fact. Unencodable where a field does not fit, or the class is no fact with a schema."""
    try:
        return _ENCODERS[type(fact)](fact)
    except (AttributeError, TypeError, KeyError, IndexError, UnicodeEncodeError) as error:
        raise Unencodable(f"{type(fact).__name__}: {error!r}") from error


def decode(value: bytes) -> Any:
    """The fact of a record, as today's dataclass. UnknownSchema, or Undecodable where the body does not fit."""
    try:
        return _DECODERS[value[:PREFIX_BYTES]](value)
    except (IndexError, UnicodeDecodeError) as error:
        raise _torn(error) from error


def decoder_passing(of: type, unread: frozenset[str]) -> Decoder:
    """What `decode` is, for who does not ask for some fields: facts of the class `of` are made without those named
    `unread`, or have them all the same (older versions). AttributeError where one that is not there is asked for."""
    decoders: dict[bytes, Decoder] = {}

    def decode_some(value: bytes) -> Any:
        prefix = value[:PREFIX_BYTES]
        decoder = decoders.get(prefix)
        if decoder is None:
            decoder = decoders[prefix] = _passing(prefix, of, unread)
        try:
            return decoder(value)
        except (IndexError, UnicodeDecodeError) as error:
            raise _torn(error) from error

    return decode_some


def fingerprint_in(value: bytes) -> bytes:
    """The fingerprint (8 bytes) of the schema that a record was written with."""
    if len(value) < PREFIX_BYTES or not value.startswith(MARKER):
        raise Undecodable("not a single-object encoding")
    return value[len(MARKER) : PREFIX_BYTES]


def schema_file(cls: type) -> SchemaFile:
    """The schema that facts of `cls` are written with. Unencodable where there is none."""
    try:
        return newest_committed()[f"{namespace_of(cls)}.{cls.__name__}"]
    except KeyError:
        raise Unencodable(f"{cls.__name__} has no schema under schemas/avro") from None


def learn(text: str) -> bytes:
    """Take a writer's schema from the log's `schemas` topic; its fingerprint. A kind of fact unknown here stays so.

    Undecodable where the text is no schema of a record.
    """
    try:
        schema = json.loads(text)
        full_name = f"{schema['namespace']}.{schema['name']}"
        fingerprint = fingerprint_of(schema)
    except (ValueError, KeyError, TypeError, fastavro.schema.SchemaParseException) as error:
        raise Undecodable(f"not a schema: {error!r}") from error
    cls = fact_classes().get(full_name)
    # Those of this checkout are known: the newest are read by generated code, which is ten times as fast.
    is_ours = any(file.fingerprint == fingerprint for file in committed())
    if cls is not None and not is_ours and MARKER + fingerprint not in _DECODERS:
        _DECODERS[MARKER + fingerprint] = _resolving_decoder(schema, cls)
    return fingerprint


class _Encoders(dict[type, Encoder]):
    """Encoders by class, made at first use."""

    def __missing__(self, cls: type) -> Encoder:
        file = schema_file(cls)
        _check_equal(cls, file)
        encoder = self[cls] = encoder_of(shape_of(cls), MARKER + file.fingerprint)
        return encoder


class _Decoders(dict[bytes, Decoder]):
    """Decoders by a record's first ten bytes, made at first use."""

    def __missing__(self, prefix: bytes) -> Decoder:
        if len(prefix) < PREFIX_BYTES or not prefix.startswith(MARKER):
            raise Undecodable("not a single-object encoding")
        if (file := _file_of(prefix)) is not None:
            decoder = self[prefix] = _decoder_for(file)
            return decoder
        raise UnknownSchema(f"no schema with fingerprint {prefix[len(MARKER) :].hex()}")


_ENCODERS = _Encoders()
_DECODERS = _Decoders()


def _torn(error: Exception) -> Undecodable:
    return Undecodable(f"the body is torn: {error!r}")


def _passing(prefix: bytes, of: type, unread: frozenset[str]) -> Decoder:
    file = _file_of(prefix)
    if file is None or not issubclass(fact_classes()[file.full_name], of):
        return _DECODERS[prefix]
    return _decoder_for(file, unread)


def _file_of(prefix: bytes) -> SchemaFile | None:
    """The schema of this checkout that a record begins with."""
    return next((file for file in committed() if MARKER + file.fingerprint == prefix), None)


def _decoder_for(file: SchemaFile, unread: frozenset[str] = frozenset()) -> Decoder:
    cls = fact_classes()[file.full_name]
    if newest_committed()[file.full_name] is not file:
        return _resolving_decoder(file.schema, cls)
    _check_equal(cls, file)
    return decoder_of(shape_of(cls), MARKER + file.fingerprint, unread)


def _check_equal(cls: type, file: SchemaFile) -> None:
    # The generated code follows the dataclass, the log follows the .avsc: they must say the same.
    if canonical_form(schema_of(cls)) != canonical_form(file.schema):
        difference = f"{cls.__name__} differs from {file.name}.v{file.version}.avsc"
        raise SchemaMismatch(f"{difference}: run python -m annals.schemas.draft")


def _resolving_decoder(writer: dict[str, Any], cls: type) -> Decoder:
    written = fastavro.parse_schema(writer)
    reader = fastavro.parse_schema(schema_file(cls).schema)

    return lambda value: from_plain(cls, read_resolving(value, written, reader))
