"""What both chains do when Alembic runs them: they use the connection that annals.database.chain_runs made."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, MetaData


def run(target: MetaData | None) -> None:
    """Run the revisions asked for, each in a transaction of its own: a run that was cut short is taken up again.

    The connection's search path is the chain's schema, so the version table stands there too.
    """
    connection = context.config.attributes.get("connection")
    if not isinstance(connection, Connection):
        raise RuntimeError("migrations run through annals.database.migrate, which locks and sets time limits")
    context.configure(connection=connection, target_metadata=target, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
