"""Chains of revisions made up by a test, in a folder of its own.

chain = make_chain(tmp_path / "chain", {"0001": "CREATE TABLE a (n int)", "0002": "ALTER TABLE a ADD m int"})
monkeypatch.setitem(migrate_module.CHAINS, "generation", str(chain))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_ENV = "from annals.migrations.environment import run\n\nrun(None)\n"


def make_chain(folder: Path, revisions: Mapping[str, str]) -> Path:
    """A chain whose revisions run this SQL, each behind the one before."""
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(_ENV)
    last = None
    for revision, sql in revisions.items():
        write_revision(folder, revision, last, sql)
        last = revision
    return folder


def write_revision(folder: Path, revision: str, down_revision: str | None, sql: str = "SELECT 1") -> Path:
    """One revision's file, in place of the one that is there."""
    path = folder / "versions" / f"r{revision}.py"
    path.write_text(
        f"from alembic import op\n\nrevision = {revision!r}\ndown_revision = {down_revision!r}\n\n\n"
        f"def upgrade() -> None:\n    op.execute({sql!r})\n"
    )
    return path
