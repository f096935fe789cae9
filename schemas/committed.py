"""The committed schemas: schemas/avro/<topic>/<Fact>.v<n>.avsc, every version of every fact, for ever."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from annals.schemas.errors import SchemaMismatch
from annals.schemas.fingerprint import fingerprint_of

AVRO = Path(__file__).parent / "avro"
_FILE_NAME = re.compile(r"(?P<name>[A-Z][A-Za-z0-9]*)\.v(?P<version>[1-9][0-9]*)\.avsc")


@dataclass(frozen=True, slots=True)
class SchemaFile:
    """One version of one fact's schema; `text` is the file's, `fingerprint` its 8 bytes."""

    topic: str
    name: str
    version: int
    text: str
    schema: dict[str, Any]
    fingerprint: bytes

    @property
    def full_name(self) -> str:
        """The name as Avro writes it: namespace and name."""
        return f"{self.schema['namespace']}.{self.name}"


def read_schemas(directory: Path) -> list[SchemaFile]:
    """All schemas under `directory`, by topic, name and version. SchemaMismatch for a file that is misnamed."""
    found = [_read(path) for path in directory.glob("*/*.avsc")]
    return sorted(found, key=lambda file: (file.topic, file.name, file.version))


def newest(schemas: list[SchemaFile]) -> dict[str, SchemaFile]:
    """The highest version of each fact, by full name."""
    return {file.full_name: file for file in sorted(schemas, key=lambda file: file.version)}


@cache
def committed() -> tuple[SchemaFile, ...]:
    """The schemas of this checkout."""
    return tuple(read_schemas(AVRO))


@cache
def newest_committed() -> dict[str, SchemaFile]:
    """The schema that each fact is written with now, by full name."""
    return newest(list(committed()))


@cache
def fact_classes() -> dict[str, type]:
    """The dataclass of each committed fact, by full name."""
    return dict(_classes())


def _classes() -> Iterator[tuple[str, type]]:
    for full_name, file in newest_committed().items():
        module = importlib.import_module(f"annals.schemas.facts.{file.topic}")
        cls = getattr(module, file.name, None)
        if cls is None:
            raise SchemaMismatch(f"{full_name} has a schema but no dataclass in {module.__name__}")
        yield full_name, cls


def _read(path: Path) -> SchemaFile:
    match = _FILE_NAME.fullmatch(path.name)
    text = path.read_text(encoding="utf-8")
    schema = json.loads(text)
    if match is None or schema.get("name") != match["name"]:
        raise SchemaMismatch(f"{path} is not named after the record in it, as <Fact>.v<n>.avsc")
    return SchemaFile(path.parent.name, match["name"], int(match["version"]), text, schema, fingerprint_of(schema))
