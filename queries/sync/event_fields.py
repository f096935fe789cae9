"""`event_fields` of a filter: which fields of each event a client wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from annals.matrix.canonical_json import loads
from annals.matrix.push_conditions import path_of


def only_fields(event: bytes, fields: Sequence[str]) -> bytes:
    """The event as JSON with nothing but these fields: dot-separated paths (client-server API, "Filtering")."""
    whole = loads(event)
    kept: dict[str, Any] = {}
    for path in fields:
        _take(whole, kept, path_of(path))
    return orjson.dumps(kept)


def _take(source: Any, kept: dict[str, Any], path: Sequence[str]) -> None:
    name, *rest = path
    if not isinstance(source, dict) or name not in source:
        return
    if not rest:
        kept[name] = source[name]
    elif isinstance(source[name], dict):
        below = kept.setdefault(name, {})
        if below is not source[name]:
            _take(source[name], below, rest)
