"""The topics of the log, as `topics.yaml` lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import yaml

_DAY_MS = 24 * 3600 * 1000
_GENERATION = re.compile(r"g[1-9][0-9]*")
_DECISIONS = "decisions.<generation>"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is kept. `retention_ms` None: for ever. A tombstone of a compacted topic stays for
    `delete_retention_ms`, so that slow readers see it."""

    name: str
    partitions: int
    compacted: bool = False
    retention_ms: int | None = None
    delete_retention_ms: int = _DAY_MS
    partition_key: str = ""
    compaction_key: str | None = None
    owner: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()


def _spec(name: str, entry: dict[str, Any]) -> TopicSpec:
    owner, readers = tuple(entry.pop("owner")), tuple(entry.pop("readers"))
    return TopicSpec(name=name, compacted="compaction_key" in entry, owner=owner, readers=readers, **entry)


def _load() -> dict[str, TopicSpec]:
    text = files(__package__).joinpath("topics.yaml").read_text("utf-8")
    return {name: _spec(name, dict(entry)) for name, entry in yaml.safe_load(text).items()}


_ALL = _load()

# What every log has from its first start; the decisions topics come with their generations.
TOPICS: dict[str, TopicSpec] = {name: spec for name, spec in _ALL.items() if "<" not in name}


def decisions_topic(generation: str) -> TopicSpec:
    """The topic that holds the decisions of a generation ("g1": `decisions.g1`)."""
    if not _GENERATION.fullmatch(generation):
        raise ValueError(f"not a generation: {generation!r}")
    return replace(_ALL[_DECISIONS], name=f"decisions.{generation}")
