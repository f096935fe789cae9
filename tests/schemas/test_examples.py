"""What was once written stays readable; what is written now, older readers read."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest

from annals.schemas.codec import decode, encode
from annals.schemas.committed import AVRO, committed, fact_classes, newest_committed
from annals.schemas.compatibility import incompatibilities
from annals.schemas.fingerprint import prefix_of
from annals.schemas.golden import EXAMPLES, Example, read_examples
from annals.schemas.plain import from_plain

ALL = [
    (file, example)
    for file in committed()
    for example in read_examples(EXAMPLES / file.topic / f"{file.name}.v{file.version}", file.schema)
]


@pytest.mark.parametrize(("file", "example"), ALL, ids=lambda value: getattr(getattr(value, "path", None), "stem", ""))
def test_today_decodes_every_example(file: Any, example: Example) -> None:
    fact = decode(example.record)
    assert type(fact) is fact_classes()[file.full_name]
    if file is newest_committed()[file.full_name]:
        assert fact == from_plain(type(fact), example.plain)
        assert encode(fact) == example.record


def test_every_version_reads_every_other() -> None:
    assert list(incompatibilities(AVRO, EXAMPLES)) == []


# The check itself, on a made-up fact.

NAME = {"name": "name", "type": "string"}
NOTE = {"name": "note", "type": ["null", "string"], "default": None}
COUNT = {"name": "count", "type": "long", "default": 0}


class Versions:
    """Schemas and examples of the made-up fact annals.rooms.Made under a directory."""

    def __init__(self, directory: Path) -> None:
        self.avro, self.examples = directory / "avro", directory / "examples"

    def add(self, version: int, fields: list[dict[str, Any]], *facts: dict[str, Any], doc: str = "") -> None:
        schema = {"type": "record", "name": "Made", "namespace": "annals.rooms", "doc": doc, "fields": fields}
        path = self.avro / "rooms" / f"Made.v{version}.avsc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(schema))
        for number, fact in enumerate(facts):
            body = io.BytesIO()
            fastavro.schemaless_writer(body, schema, fact)
            directory = self.examples / "rooms" / f"Made.v{version}"
            directory.mkdir(parents=True, exist_ok=True)
            text = io.StringIO()
            fastavro.json_writer(text, schema, [fact])
            entry = {"fact": json.loads(text.getvalue()), "record": (prefix_of(schema) + body.getvalue()).hex()}
            (directory / f"{number}.json").write_text(json.dumps(entry))

    def wrong(self) -> list[str]:
        return list(incompatibilities(self.avro, self.examples))


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    made = Versions(tmp_path)
    made.add(1, [NAME, NOTE], {"name": "a", "note": "n"}, {"name": "a", "note": None})
    return made


def test_a_field_with_a_default_may_come_and_go(versions: Versions) -> None:
    versions.add(2, [NAME, NOTE, COUNT], {"name": "b", "note": "n", "count": 2})
    versions.add(3, [NAME, COUNT], {"name": "b", "count": 2})
    assert versions.wrong() == []


def test_a_new_field_without_a_default_breaks_reading_the_old(versions: Versions) -> None:
    versions.add(2, [NAME, NOTE, {"name": "count", "type": "long"}], {"name": "b", "note": None, "count": 2})
    assert [line.split(":")[0] for line in versions.wrong()] == [
        "v2 does not read Made.v1/0.json",
        "v2 does not read Made.v1/1.json",
    ]


def test_dropping_a_field_without_a_default_breaks_older_readers(versions: Versions) -> None:
    versions.add(2, [NOTE], {"note": "n"})
    assert [line.split(":")[0] for line in versions.wrong()] == ["v1 does not read Made.v2/0.json"]


def test_a_wider_union_breaks_older_readers_only(versions: Versions) -> None:
    wider = {"name": "note", "type": ["null", "string", "long"], "default": None}
    versions.add(2, [NAME, wider], {"name": "b", "note": 5})
    assert [line.split(":")[0] for line in versions.wrong()] == ["v1 does not read Made.v2/0.json"]


def test_compatible_with_the_last_version_is_not_enough(versions: Versions) -> None:
    # v2 gives `name` a default, so that v3 may drop it as far as v2 goes; v1 still asks for it.
    versions.add(2, [NAME | {"default": ""}, NOTE, COUNT], {"name": "b", "note": "n", "count": 1})
    versions.add(3, [NOTE, COUNT], {"note": "n", "count": 1})
    assert [line.split(":")[0] for line in versions.wrong()] == ["v1 does not read Made.v3/0.json"]


def test_versions_differ_in_canonical_form(versions: Versions) -> None:
    versions.add(2, [NAME, NOTE], {"name": "b", "note": None}, doc="Another text, the same fingerprint.")
    assert "one canonical form" in versions.wrong()[0]


def test_versions_have_no_holes(versions: Versions) -> None:
    versions.add(3, [NAME, NOTE, COUNT], {"name": "b", "note": None, "count": 1})
    assert any("not 1 to 2" in line for line in versions.wrong())


def test_a_version_has_examples(versions: Versions) -> None:
    versions.add(2, [NAME, NOTE, COUNT])
    assert versions.wrong() == ["annals.rooms.Made.v2 has no examples"]


def test_an_example_is_of_its_version(versions: Versions) -> None:
    versions.add(2, [NAME, NOTE, COUNT], {"name": "b", "note": None, "count": 1})
    one = versions.examples / "rooms" / "Made.v1" / "0.json"
    one.with_name("9.json").write_text(one.read_text().replace('"record": "c301', '"record": "c301ff'))
    assert any("is not of version 1" in line for line in versions.wrong())
