"""The topic `schemas`: the log describes itself. A writer appends a schema, acknowledged, before it first uses it.

Pure: the callers read and append. A process reads the topic to its end at start, `take`s every record, and before each
append of facts first appends what `missing` gives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from annals.schemas.codec import fingerprint_in, learn
from annals.schemas.committed import SchemaFile, committed
from annals.schemas.errors import Undecodable, UnknownSchema
from annals.schemas.fingerprint import PREFIX_BYTES
from annals.schemas.records import Addressed

TOPIC = "schemas"


def missing_schemas(known: Collection[bytes], values: Iterable[bytes | None]) -> list[Addressed]:
    """The schema records that must be on the log before the records `values`, given the fingerprints on it.

    Tombstones (None) need none. UnknownSchema where a record was not written with a committed schema.
    """
    # A batch has thousands of records, of a few schemas.
    prefixes = dict.fromkeys([value[:PREFIX_BYTES] for value in values if value is not None])
    needed = map(fingerprint_in, prefixes)
    return [_record(fingerprint) for fingerprint in needed if fingerprint not in known]


class SchemaBook:
    """Which schemas are on the log, as far as this process has read or appended."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()

    def take(self, key: bytes, value: bytes | None) -> None:
        """A record of the topic, read or acknowledged. Undecodable where its text does not have its fingerprint."""
        if value is None:
            return
        if learn(value.decode(errors="replace")) != key:
            raise Undecodable(f"the schema at key {key.hex()} has another fingerprint")
        self._known.add(key)

    def missing(self, values: Iterable[bytes | None]) -> list[Addressed]:
        """What to append before `values`. Call `take` with each of it once it is acknowledged."""
        return missing_schemas(self._known, values)


def _record(fingerprint: bytes) -> Addressed:
    return Addressed(TOPIC, "", fingerprint, _committed(fingerprint).text.encode())


def _committed(fingerprint: bytes) -> SchemaFile:
    for file in committed():
        if file.fingerprint == fingerprint:
            return file
    raise UnknownSchema(f"no committed schema with fingerprint {fingerprint.hex()}")
