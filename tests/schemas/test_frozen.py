"""A committed schema or example is never edited or removed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.frozen_files import edits

ROOT = Path(__file__).parents[2]
DRAFT = "schemas/DRAFT.md"
FOLDERS = ["schemas/avro", "schemas/examples"]


def test_schemas_and_examples_are_as_they_were_committed_first() -> None:
    try:
        assert list(edits(ROOT, FOLDERS, DRAFT)) == []
    except OSError as error:
        pytest.skip(str(error))


class Repository:
    """A git repository of its own, with one schema committed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "-q")
        self.commit({"schemas/avro/a.avsc": "one"})

    def git(self, *arguments: str) -> None:
        who = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=self.root, check=True, capture_output=True)

    def commit(self, files: dict[str, str | None]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "change")

    def edits(self) -> list[str]:
        return list(edits(self.root, FOLDERS, DRAFT))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_new_files_are_no_edit(repository: Repository) -> None:
    repository.commit({"schemas/avro/b.avsc": "two"})
    (repository.root / "schemas/avro/c.avsc").write_text("not committed yet")
    assert repository.edits() == []


@pytest.mark.parametrize(("text", "finding"), [("changed", "edited"), (None, "removed")])
def test_a_change_is_found_committed_or_not(repository: Repository, text: str | None, finding: str) -> None:
    path = repository.root / "schemas/avro/a.avsc"
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert repository.edits() == [f"schemas/avro/a.avsc was {finding}"]
    repository.commit({"schemas/avro/a.avsc": text})
    assert repository.edits() == [f"schemas/avro/a.avsc was {finding}"]


def test_a_file_removed_and_added_again_counts_from_the_first(repository: Repository) -> None:
    repository.commit({"schemas/avro/a.avsc": None})
    repository.commit({"schemas/avro/a.avsc": "another"})
    assert repository.edits() == ["schemas/avro/a.avsc was edited"]


def test_edits_of_a_draft_count_from_its_end(repository: Repository) -> None:
    repository.commit({DRAFT: "draft"})
    repository.commit({"schemas/avro/a.avsc": "changed"})
    assert repository.edits() == []
    repository.commit({DRAFT: None})
    assert repository.edits() == []
    repository.commit({"schemas/avro/a.avsc": "changed again", "schemas/avro/b.avsc": "new"})
    repository.commit({"schemas/avro/b.avsc": "changed"})
    assert repository.edits() == ["schemas/avro/a.avsc was edited", "schemas/avro/b.avsc was edited"]


def test_without_a_history_nothing_can_be_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="git"):
        list(edits(tmp_path, FOLDERS, DRAFT))
