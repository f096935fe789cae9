"""How long a test waits for what must come to pass.

A wait that ends in a failure is long, however quick the thing is on an idle machine: one that runs the tests may have
a tenth of its processors for minutes, and a test that passed is over as soon as its condition holds.
"""

from __future__ import annotations

PATIENCE_S = 300.0
