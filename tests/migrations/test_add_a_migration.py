"""docs/howto/add-a-migration.md is true: what it names exists, and a revision made by it runs and may land."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from annals.database import migrate as migrate_module
from annals.database.migrate import migrate
from annals.migrations import landed
from tests.support.recorded_tables import connected, query
from tests.support.upgrade_paths import declared, revisions_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "howto" / "add-a-migration.md").read_text(encoding="utf-8")
EXAMPLE, LIFT = (
    re.sub(r"^   ", "", text, flags=re.MULTILINE) for text in re.findall(r"```python\n(.*?)```", PAGE, re.S)
)
RULES = [line.strip() for text in re.findall(r"`([A-Z_]+ = \(.*?\))`", PAGE) for line in text.splitlines()]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z.]+/[\w/.<>*-]+)`", PAGE))))
def test_the_paths_exist(path: str) -> None:
    pattern = path.replace("<chain>", "ops").replace("<name>", "users").replace("<number>_<what>", "*")
    assert list(ROOT.glob(pattern.rstrip("/"))), path


def test_the_commands_run() -> None:
    commands = re.findall(r"^ *\.venv/bin/(\S.*)$", PAGE, flags=re.MULTILINE)
    assert commands == ["python -m annals.migrations.landed", "pytest -q tests/migrations tests/postgres15"]
    # Only to check: a test must not write down what somebody is still working on.
    ran = [sys.executable, *commands[0].split()[1:], "--check"]
    done = subprocess.run(ran, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1)
    assert all(re.match(r"(generation|ops): r\d", line) for line in done.stderr.splitlines()), done.stderr
    assert all((ROOT / folder).is_dir() for folder in commands[1].split()[2:])


def test_its_times_are_those_that_count() -> None:
    assert migrate_module._LOCK_TIMEOUT_MS == 5_000
    assert "waits five seconds" in PAGE
    assert migrate_module._STATEMENT_TIMEOUT_MS == 600_000
    assert "ten minutes" in PAGE


def test_a_revision_as_it_says_runs_and_may_land(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = tmp_path / "generation"
    shutil.copytree(ROOT / "migrations" / "generation", chain)
    for file in (chain / "versions").glob("r0*.py"):
        if not file.name.startswith("r0001"):
            file.unlink()
    (chain / "landed.txt").unlink()
    landed.add_missing(chain)
    lift = f"def upgrade() -> None:\n    {LIFT.strip()}"
    text = EXAMPLE.replace("def upgrade() -> None:", lift) + "\n\n" + "\n".join(RULES) + "\n"
    (chain / "versions" / "r0002_rooms_know_their_topic.py").write_text(text)
    assert landed.problems(chain) == []
    assert [revision.revision for revision in landed.add_missing(chain)] == ["0002"]

    monkeypatch.setitem(migrate_module.CHAINS, "generation", str(chain))
    assert [revision for revision, _ in revisions_of("generation")] == ["0001", "0002"]
    assert declared("generation", "FILLED_BY_REPLAY", "0001") == {"rooms.topic"}
    assert declared("generation", "REWRITTEN", "0001") == {"leases.owner"}
    migrate(database_url)
    with connected(database_url) as connection:
        assert query(connection, "SELECT topic FROM g1.rooms") == []
