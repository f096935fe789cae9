"""The fold of the operations group: every fact a row, for people to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from annals.matrix.canonical_json import canonical_bytes
from annals.projectors.folding import At, Overlay, Touch
from annals.projectors.moved import Moved
from annals.projectors.operations.tables import OPERATIONS
from annals.schemas.facts.envelope import Fact


class OperationsProjection:
    """The table of operations. It orders nothing, so that a fact of any kind may come."""

    def touches(self, fact: Fact) -> Iterable[Touch]:
        """None."""
        return ()

    def fold(self, fact: Fact, at: At, rows: Overlay) -> None:
        """See Projection."""
        own = {f.name: _plain(getattr(fact, f.name)) for f in dataclasses.fields(fact) if f.name != "envelope"}
        row = {
            "offset": at.offset,
            "kind": type(fact).__name__,
            "recorded_at_ms": fact.envelope.recorded_at_ms,
            "writer": fact.envelope.writer,
            "details": canonical_bytes(own).decode(),
        }
        rows.put(OPERATIONS, {**row, **at.provenance()})

    def touches_of_key(self, key: bytes) -> Iterable[Touch]:
        """None."""
        return ()

    def tombstone(self, key: bytes, at: At, rows: Overlay) -> None:
        """The topic is kept whole: a filler."""

    def moved(self, fact: Fact) -> Moved:
        """Nobody waits for operations but by position."""
        return Moved()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
