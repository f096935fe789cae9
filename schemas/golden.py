"""The examples: schemas/examples/<topic>/<Fact>.v<n>/<name>.json, each a fact in Avro's JSON and as its record in hex.

They hold what was once written readable: today's code decodes every one, and older readers decode today's.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro

from annals.schemas.fingerprint import prefix_of
from annals.schemas.plain import to_plain
from annals.schemas.shapes import ArrayOf, Primitive, RecordOf, Shape, UnionOf, shape_of

EXAMPLES = Path(__file__).parent / "examples"

# Example values, by field name; what is not listed gets a value of its type.
_TEXTS = {
    "actor": "@admin:example.org",
    "alias": "#lounge:example.org",
    "device_id": "JLAFKJWSCS",
    "event_id": "$h2s8Yqf3XxqyYB6eEKW8JkFqDqMDQAKcVLSxMgZ0YJI",
    "generation": "g1",
    "idempotency_key": "@alice:example.org JLAFKJWSCS PUT /_matrix/client/v3/rooms/!r/send/m.room.message/17",
    "room_id": "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM",
    "room_version": "12",
    "sender": "@alice:example.org",
    "server": "remote.example.org",
    "server_name": "example.org",
    "state_key": "",
    "type": "m.room.name",
    "user_id": "@alice:example.org",
    "verdict": "accepted",
    "writer": "api-1",
    "writer_version": "0.1.0",
}
_NUMBERS = {"recorded_at_ms": 1_790_000_000_000, "position": (118 << 20) | 3, "source": 118}


@dataclass(frozen=True, slots=True)
class Example:
    """One example: `plain` is the fact as a dict, `record` the bytes that it was written as."""

    path: Path
    plain: dict[str, Any]
    record: bytes


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which form an example takes: with or without what may be missing, personal fields sealed or plain."""

    filled: bool
    sealed: bool


_CHOICES = {"full": _Choice(True, True), "plain": _Choice(True, False), "bare": _Choice(False, False)}


def read_examples(directory: Path, schema: dict[str, Any]) -> list[Example]:
    """The examples of one version of a fact, whose schema this is."""
    return [_read(path, schema) for path in sorted(directory.glob("*.json"))]


def write_examples(cls: type, schema: dict[str, Any], directory: Path) -> Iterator[Path]:
    """Write examples of a fact (everything filled in; personal fields in plain; as little as may be) if it has none."""
    if any(directory.glob("*.json")):
        return
    directory.mkdir(parents=True, exist_ok=True)
    seen = set()
    for name, choice in _CHOICES.items():
        plain = to_plain(_sample(shape_of(cls), choice))
        record = prefix_of(schema) + _binary(plain, schema)
        if record not in seen:
            seen.add(record)
            path = directory / f"{name}.json"
            entry = {"fact": _json(plain, schema), "record": record.hex()}
            path.write_text(json.dumps(entry, indent=2) + "\n", encoding="utf-8")
            yield path


def _read(path: Path, schema: dict[str, Any]) -> Example:
    entry = json.loads(path.read_text(encoding="utf-8"))
    (plain,) = fastavro.json_reader(io.StringIO(json.dumps(entry["fact"])), schema)
    assert isinstance(plain, dict)
    return Example(path, plain, bytes.fromhex(entry["record"]))


def _binary(plain: dict[str, Any], schema: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, plain)
    return out.getvalue()


def _json(plain: dict[str, Any], schema: dict[str, Any]) -> Any:
    out = io.StringIO()
    fastavro.json_writer(out, schema, [plain])
    return json.loads(out.getvalue())


def _sample(shape: Shape, choice: _Choice, name: str = "") -> Any:
    match shape:
        case Primitive("long"):
            return _NUMBERS.get(name, 1)
        case Primitive("boolean"):
            return choice.filled
        case Primitive("bytes"):
            return b'{"example":"' + name.encode() + b'"}'
        case Primitive():
            return _TEXTS.get(name, f"example {name}")
        case ArrayOf(item):
            return (_sample(item, choice, name),) if choice.filled else ()
        case UnionOf(branches, optional):
            if optional and not choice.filled:
                return None
            return _sample(branches[-1 if choice.sealed else 0], choice, name)
        case RecordOf(cls, _, fields):
            return cls(*(_sample(field.shape, choice, field.name) for field in fields))
