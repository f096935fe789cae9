"""docs/howto/add-an-endpoint.md is true: the files it names are there, its example is ours, its rule is kept."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "howto" / "add-an-endpoint.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`([a-z_]+/[\w/.-]*)`", PAGE)))
NAMES = {
    "WithRequester": "api/auth/tokens.py",
    "WithServices": "api/services.py",
    "Services": "api/services.py",
    "HotRoute": "api/hot.py",
    "Refused": "commands/errors.py",
    "Database": "database/pool.py",
}


@pytest.mark.parametrize("path", PATHS)
def test_what_it_names_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_words_it_uses_are_names_of_ours(name: str) -> None:
    assert name in PAGE
    assert re.search(rf"^(class )?{name}\b", (ROOT / NAMES[name]).read_text(), re.MULTILINE)


def test_its_example_stands_in_the_code() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    lines = [line.strip() for line in example.strip().splitlines()]
    code = [line.strip() for line in (ROOT / "api" / "client" / "devices.py").read_text().splitlines()]
    at = code.index(lines[0])
    assert code[at : at + len(lines)] == lines


def test_the_rule_it_states_is_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (of_api,) = (contract for contract in contracts if contract.get("source_modules") == ["annals.api"])
    assert {"annals.database", "annals.projectors", "annals.rooms"} <= set(of_api["forbidden_modules"])


def test_the_command_it_gives_runs_these_tests() -> None:
    assert ".venv/bin/pytest -q tests/api" in PAGE
