"""Which generations are projected live: the one that serves, and those that an operator has followed beside it."""

from __future__ import annotations

from annals.database.generation import checked_generation
from annals.database.pool import Database
from annals.database.statements import Statements


def followed(database: Database) -> frozenset[str]:
    """All of them."""
    sql = "SELECT generation FROM ops.followed UNION SELECT generation FROM ops.serving"
    return database.write_now(lambda statements: frozenset(row[0] for row in statements.rows(sql)))


def follow(statements: Statements, generation: str) -> None:
    """Have a running server project this generation too, from the commit on."""
    statements.execute(
        "INSERT INTO ops.followed (generation) VALUES (%s) ON CONFLICT DO NOTHING", (checked_generation(generation),)
    )


def unfollow(statements: Statements, generation: str) -> bool:
    """Leave this generation where it is; whether it was followed. What serves is projected all the same."""
    return bool(statements.execute("DELETE FROM ops.followed WHERE generation = %s", (generation,)))
