"""Revisions that have landed stay as they are, and new ones stand behind them."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from annals.migrations import landed
from tests.support.revision_chains import make_chain, write_revision

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("chain", landed.CHAINS, ids=lambda chain: chain.name)
def test_every_revision_has_landed_and_none_was_touched_since(chain: Path) -> None:
    assert landed.problems(chain) == []
    assert landed.missing(chain) == [], "run: python -m annals.migrations.landed"
    assert landed.read_landed(chain)


def test_these_are_all_chains() -> None:
    assert {chain.parent for chain in (ROOT / "migrations").glob("*/versions")} == {
        ROOT / "migrations" / chain.name for chain in landed.CHAINS
    }


@pytest.mark.parametrize("chain", landed.CHAINS, ids=lambda chain: chain.name)
def test_the_lists_have_only_grown(chain: Path) -> None:
    path = f"migrations/{chain.name}/landed.txt"
    texts = [_git("show", f"{commit}:{path}") for commit in _git("log", "--reverse", "--format=%H", "--", path).split()]
    texts.append((ROOT / path).read_text())
    for before, after in itertools.pairwise(texts):
        assert after.startswith(before)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"git: {done.stderr.strip()}")
    return done.stdout


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """Two revisions, both landed."""
    made = make_chain(tmp_path / "chain", {"0001": "SELECT 1", "0002": "SELECT 2"})
    assert [revision.revision for revision in landed.add_missing(made)] == ["0001", "0002"]
    assert landed.problems(made) == []
    return made


def test_a_revision_behind_the_last_is_missing_until_it_is_added(chain: Path) -> None:
    before = (chain / "landed.txt").read_text()
    write_revision(chain, "0003", "0002")
    assert landed.problems(chain) == []
    assert [revision.revision for revision in landed.missing(chain)] == ["0003"]
    landed.add_missing(chain)
    assert (chain / "landed.txt").read_text().startswith(before)
    assert landed.missing(chain) == []
    landed.add_missing(chain)
    assert len(landed.read_landed(chain)) == 3


def put_between(chain: Path) -> None:
    """0002 has landed; what is put before it, a server at 0002 would never run."""
    write_revision(chain, "0001b", "0001")
    write_revision(chain, "0002", "0001b", "SELECT 2")


def put_before_all(chain: Path) -> None:
    write_revision(chain, "0000", None)
    write_revision(chain, "0001", "0000", "SELECT 1")


def replace_the_last(chain: Path) -> None:
    (chain / "versions" / "r0002.py").unlink()
    write_revision(chain, "0002b", "0001")


def rename(chain: Path) -> None:
    (chain / "versions" / "r0002.py").rename(chain / "versions" / "r0002_new.py")


def misname(chain: Path) -> None:
    write_revision(chain, "0004", "0002")
    (chain / "versions" / "r0004.py").rename(chain / "versions" / "r0003.py")


SPOILED: list[tuple[Callable[[Path], object], str]] = [
    (put_between, "would skip it"),
    (put_between, "r0002.py has landed and was edited"),
    (put_before_all, "r0000.py stands before r0001.py, which has landed"),
    (lambda chain: write_revision(chain, "0002", "0001", "SELECT 3"), "r0002.py has landed and was edited"),
    (lambda chain: (chain / "versions" / "r0002.py").unlink(), "r0002.py has landed and was removed"),
    (replace_the_last, "r0002.py has landed and was removed"),
    (rename, "r0002.py has landed and was removed or renamed"),
    (lambda chain: write_revision(chain, "0002b", "0001"), "both stand behind 0001"),
    (lambda chain: write_revision(chain, "0001b", None), "both stand first of all"),
    (lambda chain: write_revision(chain, "0004", "0003"), "r0004.py: not reached"),
    (misname, "r0003.py has revision 0004"),
    (lambda chain: write_revision(chain, "0003", ("0001", "0002")), "r0003.py: a revision stands behind one other"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("spoil", "said"), SPOILED)
def test_what_a_server_would_skip_or_never_see_is_found(
    chain: Path, spoil: Callable[[Path], object], said: str
) -> None:
    before = (chain / "landed.txt").read_text()
    spoil(chain)
    assert any(said in line for line in landed.problems(chain)), landed.problems(chain)
    with pytest.raises(landed.BrokenChain, match="r0"):
        landed.add_missing(chain)
    assert (chain / "landed.txt").read_text() == before


def test_the_command_says_what_is_wrong(
    chain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(landed, "CHAINS", (chain,))
    assert landed.main(["--check"]) == 0
    write_revision(chain, "0003", "0002")
    assert landed.main(["--check"]) == 1
    assert capsys.readouterr().err == "chain: r0003.py is not written down\n"
    assert landed.main([]) == 0
    assert landed.main(["--check"]) == 0
    rename(chain)
    assert landed.main([]) == 1
    assert "renamed" in capsys.readouterr().err
