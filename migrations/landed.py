"""`python -m annals.migrations.landed`: writes down the revisions that have landed; with --check, only checks.

`landed.txt` beside each chain lists its revisions, the first at the top, a line each: SHA-256 of the file, revision,
the one before it (- for none), name of the file. What stands there some server may have passed: it is never edited or
removed, and nothing is put in between, since a server that has passed the place would skip it. Lines are only added at
the end; two branches that both add a revision meet there when they are merged, and one of them moves behind the other.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CHAINS = tuple(Path(__file__).parent / chain for chain in ("generation", "ops"))
_LIST = "landed.txt"
_NONE = "-"


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision, as its file says or as it landed."""

    sha256: str
    revision: str
    down_revision: str
    file: str


class BrokenChain(Exception):
    """The files of a chain are not one line from one first revision to one last."""


def read_landed(chain: Path) -> list[Revision]:
    """What has landed of the chain in this folder, the first revision first."""
    path = chain / _LIST
    return [Revision(*line.split()) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def read_chain(chain: Path) -> list[Revision]:
    """The revisions of the chain in this folder, the first first. Raises BrokenChain."""
    found = [_read(path) for path in sorted((chain / "versions").glob("*.py")) if path.name != "__init__.py"]
    after: dict[str, Revision] = {}
    for revision in found:
        if (other := after.setdefault(revision.down_revision, revision)) is not revision:
            behind = "first of all" if revision.down_revision == _NONE else f"behind {revision.down_revision}"
            raise BrokenChain(f"{other.file} and {revision.file} both stand {behind}")
    line: list[Revision] = []
    at = _NONE
    while at in after:
        line.append(after.pop(at))
        at = line[-1].revision
    if after:
        raise BrokenChain(f"{', '.join(r.file for r in after.values())}: not reached from the first revision")
    return line


def _read(path: Path) -> Revision:
    spec = importlib.util.spec_from_file_location(f"revision_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    down = module.down_revision
    if (
        not isinstance(down, str | None)
        or getattr(module, "depends_on", None)
        or getattr(module, "branch_labels", None)
    ):
        raise BrokenChain(f"{path.name}: a revision stands behind one other, without branches")
    if path.stem.partition("_")[0] != f"r{module.revision}":
        raise BrokenChain(f"{path.name} has revision {module.revision}: a start tells by the names what is left to do")
    return Revision(_sha256(path), module.revision, down or _NONE, path.name)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def problems(chain: Path) -> list[str]:
    """What is wrong with a chain, a line each: what landed is no more as it was, or the line is none."""
    landed = {revision.revision: revision for revision in read_landed(chain)}
    files = {path.name: path for path in (chain / "versions").glob("*.py")}
    said = [_changed(revision, files.get(revision.file)) for revision in landed.values()]
    try:
        line = read_chain(chain)
    except BrokenChain as error:
        return [*filter(None, said), str(error)]
    for number, revision in enumerate(line):
        later = next((r for r in line[number + 1 :] if r.revision in landed), None)
        if revision.revision not in landed and later is not None:
            said.append(f"{revision.file} stands before {later.file}, which has landed: who passed that would skip it")
    return [*filter(None, said)]


def _changed(landed: Revision, path: Path | None) -> str | None:
    if path is None:
        return f"{landed.file} has landed and was removed or renamed"
    if _sha256(path) != landed.sha256:
        return f"{landed.file} has landed and was edited: a change is a revision behind the last one"
    return None


def missing(chain: Path) -> list[Revision]:
    """The revisions behind the last that has landed, in order. The chain has no problems."""
    return read_chain(chain)[len(read_landed(chain)) :]


def add_missing(chain: Path) -> list[Revision]:
    """Write down what is missing. Raises BrokenChain where something else is wrong, and writes nothing then."""
    if said := problems(chain):
        raise BrokenChain("\n".join(said))
    new = missing(chain)
    with (chain / _LIST).open("a", encoding="utf-8") as file:
        file.writelines(f"{r.sha256} {r.revision} {r.down_revision} {r.file}\n" for r in new)
    return new


def main(arguments: Sequence[str]) -> int:
    """Exit status 0 if all is well (afterwards), else 1."""
    said: list[str] = []
    for chain in CHAINS:
        found = problems(chain)
        if not found and list(arguments) == ["--check"]:
            found = [f"{revision.file} is not written down" for revision in missing(chain)]
        elif not found:
            add_missing(chain)
        said += [f"{chain.name}: {line}\n" for line in found]
    sys.stderr.writelines(said)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
