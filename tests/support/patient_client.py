"""A client for other servers that waits as long as a test does: for tests of other things than slow servers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from annals.federation.client import FederationClient, Identity
from annals.federation.settings import FederationSettings
from tests.support.patience import PATIENCE_S


class PatientClient(FederationClient):
    """Waits for an answer until a test would give up, however long whoever asks would wait."""

    patience_s = PATIENCE_S

    def __init__(self, identity: Identity, settings: FederationSettings, *rest: Any, **named: Any) -> None:
        """See FederationClient."""
        waits = replace(settings, connect_timeout_s=self.patience_s, request_timeout_s=self.patience_s)
        super().__init__(identity, waits, *rest, **named)

    async def ask(self, *question: Any, timeout_s: float | None = None, **named: Any) -> bytes:
        """See FederationClient."""
        return await super().ask(*question, timeout_s=max(timeout_s or 0.0, self.patience_s), **named)
