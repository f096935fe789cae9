"""Faults in the process `projectors` of a test's server: Python imports this where PYTHONPATH names its folder.

While the file that TEST_FAULT_FILE names exists, deciding an event whose body says FAULT-DECIDE raises, and so does
folding one that says FAULT-FOLD. Nothing of the product knows of this.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def _install(path: str) -> None:
    from annals.projectors.rooms import batch
    from annals.projectors.rooms.fold import fold_step
    from annals.rooms import machine

    apply_fact = machine.apply_fact

    def raise_for(fact: Any, marker: bytes) -> None:
        if marker in getattr(fact, "body", b"") and os.path.exists(path):
            raise RuntimeError(f"injected: {marker.decode()}")

    def faulty_apply(step: Any, fact: Any, source: int) -> None:
        raise_for(fact, b"FAULT-DECIDE")
        apply_fact(step, fact, source)

    def faulty_fold(facts: Any, decisions: Any, *rest: Any) -> Any:
        # The decision to halt is folded too, and that must go well.
        if any(type(decision).__name__ == "Verdict" for decision in decisions):
            raise_for(facts.fact, b"FAULT-FOLD")
        return fold_step(facts, decisions, *rest)

    machine.apply_fact = faulty_apply
    batch.fold_step = faulty_fold  # type: ignore[assignment,attr-defined]


if sys.orig_argv[-2:] == ["run", "projectors"] and "TEST_FAULT_FILE" in os.environ:
    _install(os.environ["TEST_FAULT_FILE"])
