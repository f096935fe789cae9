"""Making connections: the one place that knows their settings.

All run in psycopg2's autocommit mode, so that BEGIN is ours to send, in one round trip with what follows it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg2
import psycopg2.extensions

from annals.database.errors import ConnectionLost, translated
from annals.database.generation import checked_generation

CONNECT_TIMEOUT_S = 10

# A peer that vanished without a word is noticed within about 10 + 3 * 5 seconds (TCP only).
_KEEPALIVE: dict[str, Any] = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


def connect(
    url: str,
    *,
    purpose: str,
    statement_timeout_ms: int = 0,
    lock_timeout_ms: int = 0,
    synchronous_commit: bool = True,
    generation: str | None = None,
) -> psycopg2.extensions.connection:
    """A connection in autocommit mode, over TCP or a unix socket; `purpose` shows in pg_stat_activity.

    A timeout of 0 is none. With a generation, its schema is the search path. Raises ConnectionLost.
    """
    try:
        connection: psycopg2.extensions.connection = psycopg2.connect(
            url,
            application_name=f"annals {purpose}",
            client_encoding="UTF8",
            connect_timeout=CONNECT_TIMEOUT_S,
            **_KEEPALIVE,
        )
    except psycopg2.Error as error:
        raise ConnectionLost(str(error).strip()) from error
    try:
        connection.autocommit = True
        psycopg2.extensions.register_type(_BYTES, connection)
        psycopg2.extensions.register_type(_BYTES_ARRAY, connection)
        settings = [
            f"SET statement_timeout = {int(statement_timeout_ms)}",
            f"SET lock_timeout = {int(lock_timeout_ms)}",
            f"SET synchronous_commit = {'on' if synchronous_commit else 'off'}",
            # Literals that we write ourselves double the quote and nothing else.
            "SET standard_conforming_strings = on",
            # Compiling a plan takes longer than any of our queries.
            "SET jit = off",
        ]
        if generation is not None:
            settings.append(f"SET search_path = {checked_generation(generation)}")
        with connection.cursor() as cursor:
            cursor.execute("; ".join(settings))
    except psycopg2.Error as error:
        connection.close()
        raise translated(error, connection) from error
    return connection


def close_quietly(connection: psycopg2.extensions.connection | None) -> None:
    """Close a connection that may be broken already."""
    if connection is not None:
        with suppress(psycopg2.Error):
            connection.close()


def _bytes_of(value: Any, cursor: Any) -> bytes | None:
    view = psycopg2.BINARY(value, cursor)
    return None if view is None else bytes(view)


_BYTES = psycopg2.extensions.new_type(psycopg2.BINARY.values, "BYTES", _bytes_of)
_BYTES_ARRAY = psycopg2.extensions.new_array_type((1001,), "BYTES[]", _BYTES)
