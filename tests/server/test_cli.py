"""The command line: quick to start, light until a command needs more, and clear about configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from annals.server.cli import main

pytestmark = pytest.mark.usefixtures("no_settings")

HEAVY = ("alembic", "asyncio", "fastapi", "pydantic", "psycopg2", "sqlalchemy", "structlog", "uvicorn")


@pytest.mark.parametrize("imported", ["annals.server.cli as cli; cli.parser()", "annals.server.supervisor"])
def test_help_and_supervisor_import_nothing_heavy(imported: str) -> None:
    program = f"import sys; import {imported}; print([name for name in {HEAVY!r} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_a_faulty_configuration_exits_78_with_a_line_for_each_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "annals.toml"
    path.write_text("nonsense = 1\nserver_name = ''\n")
    assert main(["config", "check", "--config", str(path)]) == 78
    said = capsys.readouterr().err.splitlines()
    assert "annals: nonsense: no such setting" in said
    assert len(said) == 2


def test_check_starts_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["config", "check"]) == 0
    assert "http   127.0.0.1 port 8008" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_plan_makes_keys_and_shows_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANNALS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DATABASE_URL", "postgresql://annals:hunter2@db/annals")
    assert main(["config", "plan"]) == 0
    output = capsys.readouterr().out
    assert json.loads(output)["database_url"] == "set"
    assert "hunter2" not in output
    assert (tmp_path / "data" / "keys" / "master.key").exists()


def test_a_role_alone_says_that_it_needs_a_database(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate"]) == 78
    assert "database_url: not set" in capsys.readouterr().err


def test_migrate_says_in_a_line_what_it_cannot_do(
    no_settings: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert main(["migrate"]) == 1
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("annals: ")]
    assert "127.0.0.1" in said
