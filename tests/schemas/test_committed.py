"""The committed schemas and the dataclasses say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from annals.schemas.avro_types import schema_of
from annals.schemas.committed import SchemaFile, committed, fact_classes, newest_committed, read_schemas
from annals.schemas.draft import fact_modules, facts_of
from annals.schemas.errors import SchemaMismatch
from annals.schemas.fingerprint import fingerprint_of
from annals.schemas.shapes import shape_of
from annals.schemas.topics import TOPICS


def _without_docs(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: _without_docs(value) for name, value in schema.items() if name != "doc"}
    return [_without_docs(item) for item in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("file", newest_committed().values(), ids=lambda file: file.name)
def test_dataclass_and_newest_schema_are_equal_field_by_field(file: SchemaFile) -> None:
    wanted = _without_docs(schema_of(fact_classes()[file.full_name]))
    written = _without_docs(json.loads(file.text))
    assert [field["name"] for field in written["fields"]] == [field["name"] for field in wanted["fields"]]
    for mine, its in zip(wanted["fields"], written["fields"], strict=True):
        assert its == mine
    assert written == wanted


def test_every_fact_has_a_schema() -> None:
    classes = [cls for module in fact_modules() for cls in facts_of(module)]
    assert sorted(map(repr, fact_classes().values())) == sorted(map(repr, classes))


def test_a_fact_is_of_a_topic_and_has_that_namespace() -> None:
    for file in committed():
        assert file.schema["namespace"] == f"annals.{file.topic}"
        assert file.topic in TOPICS or file.topic == "decisions"


def test_no_two_schemas_share_a_fingerprint() -> None:
    assert len({file.fingerprint for file in committed()}) == len(committed())


def test_nothing_is_an_enum() -> None:
    # An older reader could not read a symbol that came later: verdicts and reasons are strings.
    for file in committed():
        assert '"enum"' not in file.text


def test_the_fingerprint_is_that_of_the_specification() -> None:
    # Avro 1.11, "Single-object encoding" and the reference fingerprints of share/test/data/schema-tests.txt.
    null: Any = "null"
    assert fingerprint_of(null) == (7195948357588979594).to_bytes(8, "little")


def test_a_misnamed_schema_is_refused(tmp_path: Path) -> None:
    text = json.dumps({"type": "record", "name": "Made", "namespace": "annals.rooms", "fields": []})
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms" / "Other.v1.avsc").write_text(text)
    with pytest.raises(SchemaMismatch):
        read_schemas(tmp_path)


def test_a_hint_without_an_avro_type_is_refused() -> None:
    from dataclasses import make_dataclass

    with pytest.raises(TypeError, match=r"Odd\.ratio"):
        shape_of(make_dataclass("Odd", [("ratio", float)]))
