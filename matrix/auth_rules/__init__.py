"""The authorisation rules (server-server API; rooms/v1 to v12): may this event happen?

`check_auth_events` judges what an event cites, `check_signers` who signed it, `allowed` whether a state permits it.
`kind_of` tells which events share a verdict.
"""

from __future__ import annotations

from annals.matrix.auth_rules.alike import kind_of
from annals.matrix.auth_rules.checks import allowed
from annals.matrix.auth_rules.cited import check_auth_events
from annals.matrix.auth_rules.rejection import Reason, Rejection
from annals.matrix.auth_rules.signers import check_signers

__all__ = ["Reason", "Rejection", "allowed", "check_auth_events", "check_signers", "kind_of"]
