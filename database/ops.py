"""Schema `ops`: what outlives generations and is no projection: which one serves, leases, cursors.

Each function runs in a transaction of the caller (Database.write, or a WriteConnection with synchronous_commit: what
is written here cannot be folded again). Times are the caller's clock, in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from annals.database.errors import NotMigrated
from annals.database.generation import checked_generation
from annals.database.statements import Statements


def serving(statements: Statements) -> str:
    """The generation that readers take their tables from."""
    row = statements.one("SELECT generation FROM ops.serving")
    if row is None:
        raise NotMigrated("ops.serving names no generation")
    return checked_generation(row[0])


def serve(statements: Statements, generation: str) -> None:
    """Make readers take their tables from this generation, from the commit on."""
    statements.execute(
        "INSERT INTO ops.serving (generation) VALUES (%s)"
        " ON CONFLICT (only_row) DO UPDATE SET generation = excluded.generation",
        (checked_generation(generation),),
    )


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one owner to do what `name` says, until a moment."""

    name: str
    owner: str
    until_ms: int


def take_lease(statements: Statements, name: str, owner: str, now_ms: int, duration_ms: int) -> Lease | None:
    """Take a lease that is free, expired, or the owner's already; None while somebody else holds it."""
    row = statements.one(
        "INSERT INTO ops.leases AS held (name, owner, until_ms) VALUES (%s, %s, %s)"
        " ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until_ms = excluded.until_ms"
        " WHERE held.owner = excluded.owner OR held.until_ms <= %s RETURNING until_ms",
        (name, owner, now_ms + duration_ms, now_ms),
    )
    return None if row is None else Lease(name, owner, row[0])


def renew_lease(statements: Statements, lease: Lease, now_ms: int, duration_ms: int) -> Lease | None:
    """Hold on to a lease, which may have expired if nobody took it meanwhile; None when it is lost."""
    touched = statements.execute(
        "UPDATE ops.leases SET until_ms = %s WHERE name = %s AND owner = %s",
        (now_ms + duration_ms, lease.name, lease.owner),
    )
    return Lease(lease.name, lease.owner, now_ms + duration_ms) if touched else None


def release_lease(statements: Statements, lease: Lease) -> None:
    """Give a lease back before it expires; nothing happens if it is somebody else's by now."""
    statements.execute("DELETE FROM ops.leases WHERE name = %s AND owner = %s", (lease.name, lease.owner))


def leases(statements: Statements) -> list[Lease]:
    """All leases, expired ones included, by name."""
    rows = statements.rows("SELECT name, owner, until_ms FROM ops.leases ORDER BY name")
    return [Lease(*row) for row in rows]


def cursor(statements: Statements, worker: str) -> str | None:
    """How far a worker has come, as it wrote it; None for a worker that never did."""
    row = statements.one("SELECT vector FROM ops.cursors WHERE worker = %s", (worker,))
    return None if row is None else str(row[0])


def save_cursor(statements: Statements, worker: str, vector: str) -> None:
    """Remember how far a worker has come: the next positions to do, packed as it likes."""
    statements.execute(
        "INSERT INTO ops.cursors (worker, vector) VALUES (%s, %s)"
        " ON CONFLICT (worker) DO UPDATE SET vector = excluded.vector",
        (worker, vector),
    )
