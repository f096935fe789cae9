"""What README.md says of the rows, and INVENTORY.md of Complement's tests, names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
TABLES = [TESTS / "security" / "README.md", TESTS / "federation" / "INVENTORY.md"]
_TEST_FILE = re.compile(r"[\w/]*test_\w+\.py")


def _rows(path: Path) -> dict[str, list[str]]:
    """Test files by what stands in the first column."""
    rows = {}
    for line in path.read_text().splitlines():
        first, *others = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and not first.startswith("--"):
            rows[first] = _TEST_FILE.findall(others[-1])
    return rows


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_the_files_that_are_named_are_there(path: Path) -> None:
    named = {name for names in _rows(path).values() for name in names}
    assert len(named) > 15
    assert sorted(name for name in named if not (TESTS / name).is_file()) == []


def test_every_file_here_stands_in_its_row() -> None:
    rows = _rows(TABLES[0])
    for path in TESTS.glob("security/test_[0-9]*.py"):
        row = str(int(path.name[5:7]))
        assert f"security/{path.name}" in rows[row], path.name
