"""Answers to transactions, kept so that the same transaction gets the same answer: table `ops.transactions`."""

from __future__ import annotations

from typing import Protocol

from annals.database.statements import Statements
from annals.database.text import restore


class Queries(Protocol):
    """A snapshot, or a transaction of the caller."""

    def one(self, sql: str, params: tuple[object, ...] = ...) -> tuple[object, ...] | None:
        """The only row of a query, or None."""
        ...


KEPT_MS = 24 * 3600 * 1000
"""Who has not had its answer in a day does not wait for it."""

_FIND_SQL = "SELECT answer FROM ops.transactions WHERE origin = %s AND transaction_id = %s"
# It need not be on the disk: should PostgreSQL lose it, a repeat finds its events known and is answered alike.
# The first answer stands, whichever process gave it.
_KEEP_SQL = """
    SET LOCAL synchronous_commit TO off;
    INSERT INTO ops.transactions AS kept (origin, transaction_id, answer, answered_at_ms) VALUES (%s, %s, %s, %s)
    ON CONFLICT (origin, transaction_id) DO UPDATE SET origin = excluded.origin RETURNING kept.answer
"""
_FORGET_SQL = "DELETE FROM ops.transactions WHERE answered_at_ms < %s"


def found_answer(snapshot: Queries, origin: str, transaction_id: str) -> str | None:
    """What was answered before, as JSON text."""
    row = snapshot.one(_FIND_SQL, (origin, transaction_id))
    return None if row is None else restore(str(row[0]))


def keep_answer(statements: Statements, origin: str, transaction_id: str, answer: str, now_ms: int) -> str:
    """Keep an answer; the one that stands, which is an earlier one where there is one."""
    row = statements.one(_KEEP_SQL, (origin, transaction_id, answer, now_ms))
    return answer if row is None else restore(str(row[0]))


def forget_answers(statements: Statements, now_ms: int) -> int:
    """Remove what is older than a day; how many there were."""
    return statements.execute(_FORGET_SQL, (now_ms - KEPT_MS,))
