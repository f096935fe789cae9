"""A server of ours that waits longer for other servers than one in the wild, as all of them share a slow machine.

Python imports this where PYTHONPATH names its folder. Nothing of the product knows of this. What is asked of another
server, and what a client waits for meanwhile, has TEST_PATIENCE_S; whom it could not reach it tries again within
TEST_BACKOFF_MS, where that is set: tests cut wires, and wait for what comes after that.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def _wait(patience_s: float) -> None:
    from annals.commands.rooms import handshakes
    from annals.federation.client import FederationClient
    from annals.ingest.fetchers import answers, history, moments

    begin, ask = FederationClient.__init__, FederationClient.ask

    def patient_begin(self: Any, identity: Any, settings: Any, *rest: Any, **more: Any) -> None:
        object.__setattr__(settings, "connect_timeout_s", patience_s)
        object.__setattr__(settings, "request_timeout_s", patience_s)
        begin(self, identity, settings, *rest, **more)

    async def patient_ask(self: Any, *given: Any, timeout_s: float | None = None, **more: Any) -> bytes:
        return await ask(self, *given, timeout_s=max(timeout_s or 0.0, patience_s), **more)

    FederationClient.__init__, FederationClient.ask = patient_begin, patient_ask  # type: ignore[method-assign]
    moments.WAIT_S = patience_s
    # Their times are the last of their arguments that may be left out.
    for kind in (handshakes.Handshakes, history.History, answers.Answers):
        *others, _ = kind.__init__.__defaults__ or ()
        kind.__init__.__defaults__ = (*others, patience_s)


def _try_again_soon(longest_ms: int) -> None:
    from annals.federation import backoff, policy
    from annals.ingest import keyring
    from annals.ingest.fetchers import servers

    for rule in (backoff.DESTINATIONS, policy.RULE, keyring.FAILURES, servers.QUESTIONS):
        object.__setattr__(rule, "first_ms", min(rule.first_ms, longest_ms // 4))
        object.__setattr__(rule, "longest_ms", min(rule.longest_ms, longest_ms))


if "run" in sys.orig_argv and "TEST_PATIENCE_S" in os.environ:
    _wait(float(os.environ["TEST_PATIENCE_S"]))
    if "TEST_BACKOFF_MS" in os.environ:
        _try_again_soon(int(os.environ["TEST_BACKOFF_MS"]))
