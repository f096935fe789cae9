"""`python -m annals.schemas.draft`: writes the schema and the examples of facts that have none yet.

Where a dataclass differs from its newest .avsc, the next version is written; files that exist are not touched. Only
while schemas/DRAFT.md stands (no log has been written that must last) is the newest version itself replaced.
What is committed under schemas/avro and schemas/examples is the truth; this only spares the typing.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from annals.schemas import facts
from annals.schemas.avro_types import schema_of
from annals.schemas.committed import AVRO, newest, read_schemas
from annals.schemas.compatibility import incompatibilities
from annals.schemas.fingerprint import canonical_form
from annals.schemas.golden import EXAMPLES, write_examples
from annals.schemas.shapes import ArrayOf, RecordOf, Shape, UnionOf, namespace_of, shape_of, topic_of

DRAFT = AVRO.parent / "DRAFT.md"


def fact_modules() -> list[ModuleType]:
    """The modules of facts, one a topic."""
    names = sorted(info.name for info in pkgutil.iter_modules(facts.__path__) if info.name != "envelope")
    return [importlib.import_module(f"{facts.__name__}.{name}") for name in names]


def facts_of(module: ModuleType) -> list[type]:
    """The facts of a module: its dataclasses, without bases of others and without what is only a part of others."""
    classes = [cls for cls in vars(module).values() if isinstance(cls, type) and cls.__module__ == module.__name__]
    classes = [cls for cls in classes if dataclasses.is_dataclass(cls)]
    bases = {base for cls in classes for base in cls.__mro__[1:]}
    parts = {part for cls in classes for part in _parts(shape_of(cls))}
    return [cls for cls in classes if cls not in bases and cls not in parts]


def write_drafts(avro: Path, examples: Path, classes: list[type], *, replace: bool = False) -> list[Path]:
    """Write what is missing under the two directories; the files written.

    `replace`: where a class and its newest version differ, that version and its examples are written anew.
    """
    written = []
    known = newest(read_schemas(avro))
    for cls in classes:
        schema = schema_of(cls)
        last = known.get(f"{namespace_of(cls)}.{cls.__name__}")
        if last is None or canonical_form(last.schema) != canonical_form(schema):
            version = 1 if last is None else last.version if replace else last.version + 1
            for outdated in (examples / topic_of(cls) / f"{cls.__name__}.v{version}").glob("*.json"):
                outdated.unlink()
            path = avro / topic_of(cls) / f"{cls.__name__}.v{version}.avsc"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            written.append(path)
        else:
            version = last.version
        written += write_examples(cls, schema, examples / topic_of(cls) / f"{cls.__name__}.v{version}")
    return written


def _parts(record: RecordOf) -> Iterator[type]:
    for field in record.fields:
        yield from _records_in(field.shape)


def _records_in(shape: Shape) -> Iterator[type]:
    match shape:
        case RecordOf(cls, _, _):
            yield cls
            yield from _parts(shape)
        case ArrayOf(item):
            yield from _records_in(item)
        case UnionOf(branches, _):
            for branch in branches:
                yield from _records_in(branch)


if __name__ == "__main__":
    everything = [cls for module in fact_modules() for cls in facts_of(module)]
    for path in write_drafts(AVRO, EXAMPLES, everything, replace=DRAFT.exists()):
        sys.stdout.write(f"wrote {path.relative_to(AVRO.parent)}\n")
    if wrong := list(incompatibilities(AVRO, EXAMPLES)):
        sys.exit("\n".join(wrong))
