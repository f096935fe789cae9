"""Files that are written once: compared with what git has of them first."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path


def edits(repository: Path, folders: list[str], draft: str) -> Iterator[str]:
    """Files of `folders` that are not what was committed first, a line each. Paths are relative to the repository.

    Files that were edited while `draft` stood count from the commit that removed it. Nothing is compared while it
    stands. OSError where git or the whole history is not there.
    """
    if (repository / draft).exists():
        return
    if _git(repository, "rev-parse", "--is-shallow-repository").strip() != "false":
        raise OSError("the history is cut short")
    frozen = _git(repository, "log", "-1", "--diff-filter=D", "--format=%H", "--", draft).strip()
    first: dict[str, str] = {}
    if frozen:
        names = _git(repository, "ls-tree", "-r", "-z", "--name-only", frozen, "--", *folders).split("\0")
        first = {name: frozen for name in names if name}
    since = f"{frozen}..HEAD" if frozen else "HEAD"
    options = ["--reverse", "--no-renames", "--diff-filter=A", "--name-only", "--format=:%H"]
    added = _git(repository, "log", *options, since, "--", *folders)
    commit = ""
    for line in filter(None, added.splitlines()):
        if line.startswith(":"):
            commit = line[1:]
        else:
            first.setdefault(line, commit)
    for path, at in sorted(first.items()):
        file = repository / path
        if not file.exists():
            yield f"{path} was removed"
        elif file.read_text(encoding="utf-8") != _git(repository, "show", f"{at}:{path}"):
            yield f"{path} was edited"


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout
