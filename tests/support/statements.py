"""Counting what is sent to PostgreSQL: the cost of a hot path, pinned by a test.

with count_statements(database) as sent:
    await database.read(fn)
assert len(sent.queries) <= 8
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from annals.database.statements import StatementHook

_OPENINGS = ("BEGIN", "SET search_path", "COMMIT", "ROLLBACK")


class Observed(Protocol):
    """A Database or a WriteConnection."""

    on_statement: StatementHook | None


class Sent:
    """The statements sent, in order; of several threads, as they came."""

    def __init__(self) -> None:
        self.all: list[str] = []

    @property
    def queries(self) -> list[str]:
        """What the code under test asked for itself, without what opens and closes transactions."""
        return [sql for sql in self.all if not sql.startswith(_OPENINGS)]


@contextmanager
def count_statements(observed: Observed) -> Iterator[Sent]:
    """Record the statements that are sent while the block runs (the ROLLBACK after a read is not among them)."""
    sent, before = Sent(), observed.on_statement
    observed.on_statement = sent.all.append
    try:
        yield sent
    finally:
        observed.on_statement = before
