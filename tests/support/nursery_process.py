"""What the files of a chain of migrations say by their names, without Alembic."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

# annals.migrations.landed refuses a revision whose file has another name.
_REVISION = re.compile(r"r(\d{4}[a-z]?)(_\w+)?\.py")


def last_revision(place: str) -> str | None:
    """The last revision of the chain in a folder, or in one of a package (`package:folder`); None if it cannot be told
    from the names of its files."""
    folder = _folder(place) / "versions"
    found = [_REVISION.fullmatch(path.name) for path in folder.glob("*.py") if path.name != "__init__.py"]
    numbers = [match[1] for match in found if match is not None]
    return max(numbers, default=None) if len(numbers) == len(found) else None


def _folder(place: str) -> Path:
    package, _, folder = place.partition(":")
    if not folder:
        return Path(place)
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"there is no package {package}")
    return Path(spec.submodule_search_locations[0]) / folder
