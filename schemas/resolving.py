"""Records of other versions of a fact, read by Avro's schema resolution: fields that came later get their defaults."""

from __future__ import annotations

import io
from typing import Any

import fastavro

from annals.schemas.errors import Undecodable
from annals.schemas.fingerprint import PREFIX_BYTES


def read_resolving(value: bytes, writer: Any, reader: Any) -> dict[str, Any]:
    """The record, written with schema `writer`, as a dict in the shape of schema `reader` (both parsed by fastavro).

    Undecodable where it is torn or the two do not fit.
    """
    body = _ExactReader(value)
    body.seek(PREFIX_BYTES)
    try:
        plain: Any = fastavro.schemaless_reader(body, writer, reader)
    except Exception as error:  # fastavro raises whatever its C code meets: EOFError, struct.error, ValueError, ...
        raise Undecodable(f"{writer['name']}: {error!r}") from error
    if body.tell() != len(value) or not isinstance(plain, dict):
        raise Undecodable(f"{writer['name']}: the body is longer than its schema says")
    return plain


class _ExactReader(io.BytesIO):
    # fastavro takes a string that ends early for the whole string.
    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if size is not None and len(data) < size:
            raise EOFError(f"{size} bytes wanted, {len(data)} there")
        return data
