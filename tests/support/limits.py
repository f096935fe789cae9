"""What waits for a limited time in a server, or in a command, and has no setting for that: it waits longer in tests.

    environment = {**environment, **with_limits({"annals.audit.one_operator:LOCK_WAIT_S": 60}, peers_s=PATIENCE_S)}

The processes of such an environment take them on where tests.support.nursery forks them; the product knows of none.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping

from annals.commands.rooms import handshakes
from annals.federation import backoff, policy
from annals.ingest import keyring
from annals.ingest.fetchers import answers, history, moments, servers
from annals.server import peers
from tests.support.patient_client import PatientClient

_VARIABLE = "TEST_LIMITS"


def with_limits(
    constants: Mapping[str, float] | None = None, *, peers_s: float | None = None, again_ms: int | None = None
) -> dict[str, str]:
    """For the environment of a process, and of those that it forks.

    `constants` ("module:NAME") get these values. What is asked of another server, and what a client waits for
    meanwhile, has `peers_s`. Whom a server could not reach it tries again within `again_ms`: tests cut wires, and wait
    for what comes after that.
    """
    limits = {"constants": dict(constants or {}), "peers_s": peers_s, "again_ms": again_ms}
    return {_VARIABLE: json.dumps(limits)}


def take_on() -> None:
    """In a process of such an environment, before it begins. AssertionError where there is no such constant."""
    if _VARIABLE not in os.environ:
        return
    limits = json.loads(os.environ[_VARIABLE])
    for place, value in limits["constants"].items():
        _set(place, value)
    if limits["peers_s"] is not None:
        _wait_for_peers(limits["peers_s"])
    if limits["again_ms"] is not None:
        _try_again_within(limits["again_ms"])


def _set(place: str, value: float) -> None:
    module, name = place.split(":")
    assert name in vars(importlib.import_module(module)), f"there is no {place}"
    setattr(importlib.import_module(module), name, value)


def _wait_for_peers(patience_s: float) -> None:
    PatientClient.patience_s = patience_s
    vars(peers)["FederationClient"] = PatientClient
    moments.WAIT_S = patience_s
    # Their times are the last of their arguments that may be left out.
    for kind in (handshakes.Handshakes, history.History, answers.Answers):
        *others, _ = kind.__init__.__defaults__ or ()
        kind.__init__.__defaults__ = (*others, patience_s)


def _try_again_within(longest_ms: int) -> None:
    for rule in (backoff.DESTINATIONS, policy.RULE, keyring.FAILURES, servers.QUESTIONS):
        object.__setattr__(rule, "first_ms", min(rule.first_ms, longest_ms // 4))
        object.__setattr__(rule, "longest_ms", min(rule.longest_ms, longest_ms))
