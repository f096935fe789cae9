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
#: The same, of a log on a broker that works: its answers may take longer.
PATIENT_KAFKA: Mapping[str, str] = {"ANNALS_KAFKA__APPEND_WAIT_S": "120", "ANNALS_KAFKA__REQUEST_WAIT_S": "120"}
#: And for the section [kafka] of a `Config`.
PATIENT_KAFKA_SECTION: Mapping[str, float] = {"append_wait_s": 120, "request_wait_s": 120}
