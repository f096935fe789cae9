"""A process `projectors` that stands still half-way: Python imports this where PYTHONPATH names its folder.

While the file that TEST_HOLD_FILE names exists, it commits twice and no more. Nothing of the product knows of this.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

_COMMITS = 2


def _install(path: str) -> None:
    from annals.projectors.transaction import Transactions

    commit, commits = Transactions._commit, 0

    def held(self: Any, *arguments: Any) -> None:
        nonlocal commits
        while commits >= _COMMITS and os.path.exists(path):
            time.sleep(0.02)
        commit(self, *arguments)
        commits += 1

    Transactions._commit = held  # type: ignore[assignment,method-assign]


if sys.orig_argv[-2:] == ["run", "projectors"] and "TEST_HOLD_FILE" in os.environ:
    _install(os.environ["TEST_HOLD_FILE"])
