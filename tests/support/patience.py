"""How long a test waits for what must come to pass.

A wait that ends in a failure is long, however quick the thing is on an idle machine: one that runs the tests may have
a tenth of its processors for minutes, and a test that passed is over as soon as its condition holds.
"""

from __future__ import annotations

from collections.abc import Mapping

PATIENCE_S = 300.0

#: For the environment of a server: requests wait for its tables longer than they do in the wild. A test of those limits
#: sets its own.
PATIENT: Mapping[str, str] = {"ANNALS_STARTING_WAIT_S": "120", "ANNALS_TABLES_WAIT_S": "120"}
