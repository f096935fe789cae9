"""docs/howto/add-a-fact.md is true: what it names exists, what it tells one to run runs, and does what it says."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from annals.schemas import records
from annals.schemas.committed import AVRO, read_schemas
from annals.schemas.compatibility import incompatibilities
from annals.schemas.draft import fact_modules, facts_of, write_drafts
from annals.schemas.facts import decisions, rooms, users
from annals.schemas.facts.envelope import Fact, Sealable
from annals.schemas.golden import EXAMPLES
from annals.schemas.shapes import shape_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "howto" / "add-a-fact.md").read_text(encoding="utf-8")


def _made(name: str, fields: list[Any], bases: tuple[type, ...] = ()) -> Any:
    cls = dataclasses.make_dataclass(name, fields, bases=bases, frozen=True, slots=True)
    cls.__module__ = "annals.schemas.facts.rooms"
    return cls


PART = _made("Part", [("number", int)])
FIELDS = [("texts", tuple[str, ...]), ("part", PART | None), ("personal", Sealable), ("data", bytes), ("flag", bool)]
MADE = _made("Made", FIELDS, (Fact,))
WIDER = _made("Made", [*FIELDS, ("note", str, "")], (Fact,))


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z.]+/[\w/.<>*-]+)`", PAGE))))
def test_the_paths_exist(path: str) -> None:
    pattern = path.replace("<topic>", "rooms").replace("<Fact>", "PduCreated")
    if path == "schemas/DRAFT.md" and not (ROOT / path).exists():
        pytest.skip("stands only until the first release")
    assert list(ROOT.glob(pattern)), path


def test_the_names_exist() -> None:
    assert "_KEYS" in PAGE
    assert isinstance(records._KEYS, dict)
    for name, module in (("RoomFact", rooms), ("UserFact", users), ("Decision", decisions), ("Sealable", rooms)):
        assert f"`{name}`" in PAGE
        assert hasattr(module, name)


def test_the_commands_run(tmp_path: Path) -> None:
    # First on a copy: a test must not write a forgotten schema into the checkout.
    for folder in (AVRO, EXAMPLES):
        shutil.copytree(folder, tmp_path / folder.name)
    classes = [cls for module in fact_modules() for cls in facts_of(module)]
    assert write_drafts(tmp_path / "avro", tmp_path / "examples", classes, replace=True) == []
    commands = re.findall(r"^ *\.venv/bin/(\S.*)$", PAGE, flags=re.MULTILINE)
    assert commands == ["python -m annals.schemas.draft", "pytest -q tests/schemas"]
    before = _contents()
    done = subprocess.run([sys.executable, *commands[0].split()[1:]], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert _contents() == before
    assert (ROOT / commands[1].split()[-1]).is_dir()


def test_every_type_that_it_lists_has_an_avro_type() -> None:
    assert {field.name for field in shape_of(MADE).fields} == {"envelope", "texts", "part", "personal", "data", "flag"}


def test_a_first_version_is_written_with_examples(tmp_path: Path) -> None:
    written = write_drafts(tmp_path / "avro", tmp_path / "examples", [MADE])
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "avro/rooms/Made.v1.avsc",
        "examples/rooms/Made.v1/full.json",
        "examples/rooms/Made.v1/plain.json",
        "examples/rooms/Made.v1/bare.json",
    ]
    assert list(incompatibilities(tmp_path / "avro", tmp_path / "examples")) == []
    assert write_drafts(tmp_path / "avro", tmp_path / "examples", [MADE]) == []


def test_a_change_is_a_second_version_beside_the_first(tmp_path: Path) -> None:
    first = {path: path.read_text() for path in write_drafts(tmp_path / "avro", tmp_path / "examples", [MADE])}
    second = write_drafts(tmp_path / "avro", tmp_path / "examples", [WIDER])
    assert second[0].name == "Made.v2.avsc"
    assert all(path.read_text() == text for path, text in first.items())
    assert list(incompatibilities(tmp_path / "avro", tmp_path / "examples")) == []


def test_a_draft_is_replaced(tmp_path: Path) -> None:
    write_drafts(tmp_path / "avro", tmp_path / "examples", [MADE])
    write_drafts(tmp_path / "avro", tmp_path / "examples", [WIDER], replace=True)
    (file,) = read_schemas(tmp_path / "avro")
    assert "note" in {field["name"] for field in file.schema["fields"]}
    assert list(incompatibilities(tmp_path / "avro", tmp_path / "examples")) == []


def test_bases_and_parts_are_no_facts() -> None:
    names: Any = {cls.__name__ for cls in facts_of(rooms)}
    assert {"PduCreated", "RoomForgotten"} <= names
    assert not {"RoomFact", "PduFact", "SignatureChecked", "Fact"} & names


def _contents() -> dict[Path, bytes]:
    folders = (AVRO, EXAMPLES)
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
