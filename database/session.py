"""Session: one pool thread's connection, and the transactions on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg2
import psycopg2.extensions
from psycopg2 import errors as postgres_errors

from annals.database.connection import close_quietly, connect
from annals.database.errors import ConnectionLost, NotMigrated, translated
from annals.database.generation import FIRST_GENERATION, checked_generation
from annals.database.prepared import PLANNER, Prepared
from annals.database.snapshot import Snapshot
from annals.database.statements import StatementHook, Statements, one_of, run

T = TypeVar("T")
Guard = Callable[[], Callable[[Snapshot], None]]

# A switch may fall between two tries, a second one hardly.
_GENERATION_TRIES = 4

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_OPEN_SERVING = f"{_BEGIN}; EXECUTE open_serving"
_OPEN_NAMED = f"{_BEGIN}; EXECUTE open_named"


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What the sessions of a pool have in common."""

    url: str
    statement_timeout_ms: int
    positions_sql: str
    on_statement: StatementHook


class Shared:
    """What the sessions of a pool tell each other: the generation that served last. Only ever a guess to verify."""

    __slots__ = ("generation", "guard")

    def __init__(self) -> None:
        self.generation = FIRST_GENERATION
        # See Database.guard_reads.
        self.guard: Guard | None = None


class _GenerationMoved(Exception):
    """The generation that we read is not the one that serves."""

    def __init__(self, serving: str) -> None:
        self.serving = serving


class Session:
    """Used by one thread. A transaction stays open after `read` returned or raised, until `finish`."""

    def __init__(self, settings: SessionSettings, shared: Shared) -> None:
        self._settings = settings
        self._shared = shared
        self._connection: psycopg2.extensions.connection | None = None
        self._cursor: psycopg2.extensions.cursor | None = None
        self._search_path: str | None = None
        # LEFT JOIN, so that a generation without positions still answers its name; `present` tells the two apart.
        join = f"s LEFT JOIN (SELECT true AS present, p.* FROM ({settings.positions_sql}) p) p ON true"
        # Prepared, as planning them costs more than running them; found anew by name when the search path changes.
        self._prepare = (
            f"PREPARE open_serving AS SELECT s.generation, p.* FROM ops.serving {join};"
            f" PREPARE open_named AS SELECT s.generation, p.* FROM (SELECT current_schema() AS generation) {join}"
        )
        self._prepared = False
        self._plans = Prepared()

    def read(self, fn: Callable[[Snapshot], T], generation: str | None) -> T:
        """`fn` of a snapshot; from its start once more on a new connection when this one breaks."""
        try:
            return self._read(fn, generation)
        except ConnectionLost:
            self.close()
        return self._read(fn, generation)

    def write(self, fn: Callable[[Statements], T]) -> T:
        """`fn` of a transaction, then COMMIT; rolled back when it raises."""
        cursor = self._open()
        try:
            run(cursor, "BEGIN", (), self._settings.on_statement)
        except ConnectionLost:
            # Lost while it was idle: nothing has been done yet.
            self.close()
            cursor = self._open()
            run(cursor, "BEGIN", (), self._settings.on_statement)
        result = fn(_Transaction(cursor, self._settings.on_statement))
        run(cursor, "COMMIT", (), self._settings.on_statement)
        return result

    def finish(self) -> None:
        """End the transaction, if one is open; a connection that cannot is closed."""
        connection = self._connection
        if connection is None:
            return
        idle = psycopg2.extensions.TRANSACTION_STATUS_IDLE
        try:
            if connection.closed or (connection.info.transaction_status != idle and not self._rolled_back()):
                self.close()
        except psycopg2.Error:
            self.close()

    def close(self) -> None:
        """Close the connection; the next use makes another."""
        close_quietly(self._connection)
        self._connection = self._cursor = self._search_path = None
        self._prepared = False
        self._plans = Prepared()

    def _read(self, fn: Callable[[Snapshot], T], generation: str | None) -> T:
        snapshot = self._begin(generation)
        try:
            return fn(snapshot)
        finally:
            snapshot.end()

    def _begin(self, generation: str | None) -> Snapshot:
        for _ in range(_GENERATION_TRIES):
            cursor = self._open()
            wanted = generation or self._shared.generation
            try:
                return self._begin_in(cursor, wanted, _OPEN_NAMED if generation else _OPEN_SERVING)
            except _GenerationMoved as moved:
                self._shared.generation = checked_generation(moved.serving)
            except psycopg2.Error as error:
                self._understand(error, wanted, generation)
            self.finish()
        raise NotMigrated("the serving generation changes faster than it can be read")

    def _begin_in(self, cursor: psycopg2.extensions.cursor, wanted: str, begin: str) -> Snapshot:
        if self._search_path != wanted:
            # Outside of a transaction, or its ROLLBACK would take this back.
            self._send(cursor, f"SET search_path = {checked_generation(wanted)}")
            self._search_path = wanted
        if not self._prepared:
            # Once a connection, so not announced: it would make counts of statements depend on the thread.
            cursor.execute(f"{PLANNER}; {self._prepare}")
            self._prepared = True
        guard = self._shared.guard
        refuse = guard() if guard is not None and begin == _OPEN_SERVING else None
        self._send(cursor, begin)
        rows = cursor.fetchall()
        if not rows:
            raise NotMigrated("ops.serving names no generation")
        if rows[0][0] != wanted:
            raise _GenerationMoved(rows[0][0])
        positions = [row[2:] for row in rows if row[1]]
        snapshot = Snapshot(cursor, wanted, positions, self._settings.on_statement, self._plans)
        if refuse is not None:
            refuse(snapshot)
        return snapshot

    def _understand(self, error: psycopg2.Error, wanted: str, generation: str | None) -> None:
        """Return if another generation is to be tried; else raise what the failed BEGIN means."""
        if isinstance(error, postgres_errors.FeatureNotSupported):
            # The columns of `positions` are others than when the statement was prepared: prepare it again.
            self.close()
            return
        missing = isinstance(error, postgres_errors.UndefinedTable | postgres_errors.InvalidSchemaName)
        if not missing:
            raise translated(error, self._connection) from error
        if generation is None and (serving := self._serving()) != wanted:
            # The generation that served last has been dropped.
            self._shared.generation = checked_generation(serving)
            return
        raise NotMigrated(f"generation {wanted} is not there: {str(error).strip()}") from error

    def _serving(self) -> str:
        self.finish()
        cursor = self._open()
        try:
            self._send(cursor, "SELECT generation FROM ops.serving")
            row = cursor.fetchone()
        except postgres_errors.UndefinedTable as error:
            raise NotMigrated("schema ops is not there") from error
        except psycopg2.Error as error:
            raise translated(error, self._connection) from error
        if row is None:
            raise NotMigrated("ops.serving names no generation")
        return str(row[0])

    def _open(self) -> psycopg2.extensions.cursor:
        if self._cursor is None:
            self._search_path = self._shared.generation
            self._connection = connect(
                self._settings.url,
                purpose="read",
                statement_timeout_ms=self._settings.statement_timeout_ms,
                generation=self._search_path,
            )
            self._cursor = self._connection.cursor()
        return self._cursor

    def _send(self, cursor: psycopg2.extensions.cursor, sql: str) -> None:
        self._settings.on_statement(sql)
        cursor.execute(sql)

    def _rolled_back(self) -> bool:
        if self._cursor is None:
            return False
        # Not announced: nobody waits for it.
        self._cursor.execute("ROLLBACK")
        return True


class _Transaction:
    """Statements of one `write`."""

    __slots__ = ("_cursor", "_hook")

    def __init__(self, cursor: psycopg2.extensions.cursor, hook: StatementHook) -> None:
        self._cursor = cursor
        self._hook = hook

    def execute(self, sql: str, params: Sequence[Any] = ()) -> int:
        run(self._cursor, sql, params, self._hook)
        return self._cursor.rowcount

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        run(self._cursor, sql, params, self._hook)
        return self._cursor.fetchall()

    def one(self, sql: str, params: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        return one_of(self.rows(sql, params), sql)
