"""Synapse in a process of its own: its dependencies stay out of our environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
READY = Path(".cache/peer-venv/.installed")
_JUDGE = Path(__file__).parent / "synapse_judge.py"


def peer_python() -> Path:
    """The interpreter that has Synapse; its environment is made (by the Makefile's target) where it is missing."""
    if not (ROOT / READY).exists():
        subprocess.run(["make", "--silent", str(READY)], cwd=ROOT, check=True)
    return ROOT / READY.parent / "bin" / "python"


class Synapse:
    """The judge. One question at a time, many in a line."""

    def __init__(self) -> None:
        command = [str(peer_python()), str(_JUDGE)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Synapse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.close()
        self._process.wait(timeout=PATIENCE_S)

    def ask(self, case: dict[str, Any]) -> list[Any]:
        """Its answers to a case, as synapse_judge.py says."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(case) + "\n")
        stdin.flush()
        line = stdout.readline()
        assert line, "the judge has died; its last words are above"
        answers: list[Any] = json.loads(line)
        return answers
