"""Code stands in top-level folders and is imported as annals.<folder>: the links, the built package, the names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINKS = ROOT / "src" / "annals"
# Top-level folders that are no part of the package.
NOT_IMPORTED = {"tests", "benchmarks"}
DATA_SUFFIXES = {".avsc", ".json", ".yaml", ".mako", ".ini"}


def checked_in() -> list[Path]:
    """Files of the checkout, new ones included, ignored ones not; relative paths."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return sorted({Path(name) for name in output.split("\0") if name and (ROOT / name).exists()})


def package_folders() -> set[str]:
    """Top-level folders with Python packages in them."""
    inits = [path for path in checked_in() if len(path.parts) == 2 and path.name == "__init__.py"]
    return {path.parts[0] for path in inits} - NOT_IMPORTED


def packaged() -> list[Path]:
    """Files that belong to the package."""
    folders = package_folders()
    return [path for path in checked_in() if path.parts[0] in folders]


def test_each_folder_has_its_link_and_each_link_its_folder() -> None:
    links = {path.name: str(path.readlink()) for path in LINKS.iterdir() if path.is_symlink()}
    assert links == {name: f"../../{name}" for name in package_folders()}


def test_all_else_under_src_is_the_package_itself() -> None:
    own = {path.name for path in LINKS.iterdir() if not path.is_symlink()} - {"__pycache__"}
    assert own == {"__init__.py", "py.typed"}


def test_the_short_names_are_banned_and_no_other() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    banned = settings["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert package_folders() <= banned.keys()


def test_nobody_imports_a_short_name() -> None:
    short = package_folders()
    # Most files need no parsing: no import in them has such a word where a module's name begins.
    suspicious = re.compile(rf"(?:^|[;:])\s*(?:import|from)\s[^#\n]*(?<![\w.])(?:{'|'.join(short)})\b", re.MULTILINE)
    wrong = []
    for path in checked_in():
        if path.suffix != ".py" or path.parts[0] == "src":
            continue
        text = (ROOT / path).read_text()
        for node in ast.walk(ast.parse(text)) if suspicious.search(text) else ():
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            wrong += [f"{path}: {name}" for name in names if name.partition(".")[0] in short]
    assert wrong == []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist, built from a copy of the checkout."""
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("dist")
    for path in checked_in():
        target = copy / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / path).is_symlink():
            target.symlink_to((ROOT / path).readlink())
        else:
            target.write_bytes((ROOT / path).read_bytes())
    program = f"from setuptools import build_meta as b; b.build_wheel({str(out)!r}); b.build_sdist({str(out)!r})"
    subprocess.run([sys.executable, "-c", program], cwd=copy, check=True, capture_output=True)
    return out


def test_the_wheel_holds_all_code_and_no_short_name(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    wanted = {f"annals/{path}" for path in packaged() if path.suffix in DATA_SUFFIXES | {".py"}}
    assert wanted - names == set()
    assert {name.partition("/")[0] for name in names} == {"annals", "annals-0.1.0.dist-info"}


def test_the_sdist_builds_without_the_checkout(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {f"src/annals/{path}" for path in packaged() if path.suffix == ".py"}
    assert wanted - names == set()
