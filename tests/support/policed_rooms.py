"""Rooms with a policy server, for tests of the machine: `peer`, of which carol is in woven rooms."""

from __future__ import annotations

from typing import Any

from annals.matrix.events import Event, event_of
from annals.matrix.policy_servers import KEY_ID, signature_in
from annals.matrix.signing import SigningKey, sign_event
from annals.schemas.facts.rooms import PolicyAnswered
from tests.support.room_weaver import ALICE, Weaver, plain_room
from tests.support.rooms import envelope

POLICY_KEY = SigningKey(KEY_ID, b"\3" * 32)
OTHER_KEY = SigningKey(KEY_ID, b"\4" * 32)
POLICY = "m.room.policy"


def content_of(via: str = "peer", key: SigningKey = POLICY_KEY) -> dict[str, Any]:
    """What names a policy server."""
    return {"via": via, "public_keys": {"ed25519": key.verify_key.base64}}


def policed_room(version: str = "12") -> Weaver:
    """A plain room whose last event names `peer` as its policy server."""
    weaver = plain_room(version)
    weaver.add((POLICY, ALICE, "", content_of()))
    return weaver


def recommended(event: Event, server: str = "peer", key: SigningKey = POLICY_KEY) -> Event:
    """The event with the policy server's signature."""
    return event_of(sign_event(event.pdu, event.rules, server, key), event.rules, event.event_id)


def answer(event: Event, outcome: str, server: str = "peer", key: SigningKey | None = None) -> PolicyAnswered:
    """What came of asking about the event; `key`: what it is signed by."""
    signature = signature_in(recommended(event, server, key).pdu["signatures"], server) if key else None
    return PolicyAnswered(envelope(), event.room_id, event.event_id, server, outcome, signature, None, None, None)


def signed(event: Event) -> PolicyAnswered:
    """It is recommended."""
    return answer(event, "signed", key=POLICY_KEY)
