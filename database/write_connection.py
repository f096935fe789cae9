"""WriteConnection: one connection for one writer, which says itself when a transaction begins and ends."""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import Any, Protocol

import psycopg2
import psycopg2.extensions

from annals.database.connection import close_quietly, connect
from annals.database.errors import ConnectionLost, StatementFailed, translated
from annals.database.statements import StatementHook, adapted, one_of

Part = str | tuple[str, Sequence[Any]]
# A staging table is read whole for each batch: past this the next batch begins with an empty one. Emptying costs a
# commit that waits for the disk.
STAGING_BYTES_MAX = 2 << 20
_READS_MAX = 10


class CopySource(Protocol):
    """Where a COPY takes its bytes from, in COPY's text format."""

    def read(self, size: int = ..., /) -> bytes:
        """The next bytes; none at the end."""
        ...


class WriteConnection:
    """Used by one thread at a time. Unqualified tables are those of `generation`.

    With `synchronous_commit=False` a commit does not wait for the disk: what PostgreSQL loses in a crash is the
    latest commits, in order and whole (projections fold them again; `ops` must not be written so).

    Every method raises ConnectionLost once the connection is gone, which rolls back what was open: the writer gives
    up what it owns and begins anew with another WriteConnection. After a ConnectionLost out of `commit` the
    transaction may have happened or not: the position row tells.
    """

    def __init__(
        self,
        url: str,
        generation: str | None = None,
        *,
        purpose: str = "write",
        synchronous_commit: bool = False,
        statement_timeout_ms: int = 0,
        lock_timeout_ms: int = 0,
        on_statement: StatementHook | None = None,
    ) -> None:
        self.generation = generation
        self.on_statement = on_statement
        self._connection = connect(
            url,
            purpose=purpose,
            generation=generation,
            synchronous_commit=synchronous_commit,
            statement_timeout_ms=statement_timeout_ms,
            lock_timeout_ms=lock_timeout_ms,
        )
        self._cursor = self._connection.cursor()
        # What each staging table holds, in bytes of COPY data.
        self._staging: dict[str, int] = {}

    def begin(self) -> None:
        """Open a READ COMMITTED transaction (one round trip: execute_many_in_one can take "BEGIN" along)."""
        self.execute("BEGIN")

    def commit(self) -> None:
        """Commit; StatementFailed if a statement had failed before, as nothing is kept then."""
        self._send("COMMIT", None)
        if self._cursor.statusmessage != "COMMIT":
            self._staging.clear()
            # 25P02: in a failed transaction. PostgreSQL answers such a COMMIT with ROLLBACK, and no error.
            raise StatementFailed("the transaction had failed: it was rolled back", "25P02")

    def rollback(self) -> None:
        """Undo what is open, if anything is."""
        if self.in_transaction:
            self._staging.clear()
            self.execute("ROLLBACK")

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, a failed one included."""
        if self._connection.closed:
            raise ConnectionLost("the connection is closed")
        return self._connection.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_IDLE

    def execute(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Run one statement; how many rows it touched."""
        self._send(sql, adapted(params))
        return self._cursor.rowcount

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement answers."""
        self._send(sql, adapted(params))
        return self._cursor.fetchall()

    def one(self, sql: str, params: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The only row that a statement answers, or None."""
        return one_of(self.rows(sql, params), sql)

    def execute_many_in_one(self, sql_parts: Sequence[Part]) -> list[tuple[Any, ...]]:
        """Run several statements in one round trip, in their order; the rows of the last one.

        A part is SQL alone, or SQL and its parameters. Outside of a transaction they are one of their own, unless
        BEGIN or COMMIT is among them. If one fails, none after it runs.
        """
        if not sql_parts:
            return []
        self._send("; ".join([self._bound(part) for part in sql_parts]), None)
        return self._cursor.fetchall() if self._cursor.description else []

    def copy_in(self, sql: str, source: CopySource) -> int:
        """Run a COPY ... FROM STDIN; the number of rows. A source that raises makes it fail, as StatementTimeout."""
        self._announce(sql)
        try:
            # The stubs ask for readline as well; psycopg2 calls read alone.
            self._cursor.copy_expert(sql, source)  # type: ignore[arg-type]
        except psycopg2.Error as error:
            raise self._translated(error) from error
        return self._cursor.rowcount

    def prepare_staging(self, table: str, create_sql: str) -> None:
        """Have a temporary table ready for more: made at first use, emptied when it holds much.

        Not emptied by every commit: ON COMMIT DELETE ROWS truncates files, 1 to 4 ms a commit (measured).
        """
        held_bytes = self._staging.get(table)
        if held_bytes is None:
            # A rollback may have taken the table, or left its rows: either way this connection forgot it.
            self.execute_many_in_one([create_sql, f"TRUNCATE {table}"])
            self._staging[table] = 0
        elif held_bytes > STAGING_BYTES_MAX:
            self.execute(f"TRUNCATE {table}")
            self._staging[table] = 0

    def staged(self, table: str, data_bytes: int) -> None:
        """Remember what was copied into a temporary table."""
        self._staging[table] += data_bytes

    def backend(self) -> tuple[int, str]:
        """Process id and start time (text) of the server's process for this connection: who holds its locks."""
        row = self.one("SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        if row is None:
            raise ConnectionLost("the backend does not see itself")
        return row[0], row[1]

    def check(self) -> None:
        """Raise ConnectionLost if the server has ended the connection: seen without a round trip, between statements.

        Who has nothing to send would not hear of it otherwise.
        """
        try:
            # The server's last words are read first, the end of the connection after them.
            for _ in range(_READS_MAX):
                if not select.select([self._connection.fileno()], [], [], 0)[0]:
                    break
                self._connection.poll()
        except psycopg2.Error as error:
            self.close()
            raise ConnectionLost(str(error).strip() or "the connection is closed") from error

    def close(self) -> None:
        """Close; what is open is rolled back by the server."""
        close_quietly(self._connection)

    def _bound(self, part: Part) -> str:
        if isinstance(part, str):
            return part
        sql, params = part
        try:
            return self._cursor.mogrify(sql, adapted(params)).decode()
        except psycopg2.Error as error:
            raise self._translated(error) from error

    def _send(self, sql: str, params: tuple[Any, ...] | None) -> None:
        self._announce(sql)
        try:
            self._cursor.execute(sql, params)
        except psycopg2.Error as error:
            raise self._translated(error) from error

    def _announce(self, sql: str) -> None:
        if self.on_statement is not None:
            self.on_statement(sql)

    def _translated(self, error: psycopg2.Error) -> Exception:
        result = translated(error, self._connection)
        if isinstance(result, ConnectionLost):
            # A FATAL message may arrive before the end of the connection does: no further use of it either way.
            self.close()
        return result
