"""FULL_TRANSITIVE: every version of a fact reads what every other version wrote, older and newer ones alike.

Shown on the examples: each is decoded by each version's schema. Done by fastavro alone, beside the codec.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import fastavro

from annals.schemas.committed import SchemaFile, read_schemas
from annals.schemas.errors import Undecodable
from annals.schemas.fingerprint import canonical_form, prefix_of
from annals.schemas.golden import Example, read_examples
from annals.schemas.resolving import read_resolving


def incompatibilities(avro: Path, examples: Path) -> Iterator[str]:
    """What is wrong with the schemas and examples in these directories, a line each."""
    facts: dict[str, list[SchemaFile]] = {}
    for file in read_schemas(avro):
        facts.setdefault(file.full_name, []).append(file)
    for name, versions in facts.items():
        if [file.version for file in versions] != list(range(1, len(versions) + 1)):
            yield f"{name}: the versions are not 1 to {len(versions)}"
        for older, newer in combinations(versions, 2):
            if canonical_form(older.schema) == canonical_form(newer.schema):
                yield f"{name}: v{older.version} and v{newer.version} have one canonical form, so one fingerprint"
        for writer in versions:
            yield from _unread(writer, versions, examples)


def _unread(writer: SchemaFile, versions: list[SchemaFile], examples: Path) -> Iterator[str]:
    directory = examples / writer.topic / f"{writer.name}.v{writer.version}"
    found = read_examples(directory, writer.schema)
    if not found:
        yield f"{writer.full_name}.v{writer.version} has no examples"
    for example in found:
        if not example.record.startswith(prefix_of(writer.schema)):
            yield f"{example.path} is not of version {writer.version}"
            continue
        for reader in versions:
            if error := _error_of_reading(example, writer, reader):
                yield f"v{reader.version} does not read {writer.name}.v{writer.version}/{example.path.name}: {error}"


def _error_of_reading(example: Example, writer: SchemaFile, reader: SchemaFile) -> str | None:
    try:
        read_resolving(example.record, fastavro.parse_schema(writer.schema), fastavro.parse_schema(reader.schema))
    except Undecodable as error:
        return str(error)
    return None
