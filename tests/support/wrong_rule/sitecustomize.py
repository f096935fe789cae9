"""A wrong power-level rule in the processes of a test's server: Python imports this where PYTHONPATH names its folder.

While the file that TEST_WRONG_RULE_FILE names exists, anybody may send anything in a room they are in. Nothing of the
product knows of this.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def _install(path: str) -> None:
    from annals.matrix.power_levels import PowerLevels

    right = PowerLevels.required

    def required(self: Any, event_type: str, *, is_state: bool) -> Any:
        return 0 if os.path.exists(path) else right(self, event_type, is_state=is_state)

    PowerLevels.required = required  # type: ignore[method-assign]


if "run" in sys.orig_argv and "TEST_WRONG_RULE_FILE" in os.environ:
    _install(os.environ["TEST_WRONG_RULE_FILE"])
