"""m.presence EDUs: who of another server is online, of users that share a room with one of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annals.ingest.inbound.edus import contents_of, is_of
from annals.ingest.inbound.metrics import count
from annals.matrix.presence import OFFLINE, Presence, pushed
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.facts.ephemeral import PresenceSet

PRESENCE = "m.presence"
BELIEVED_MS = 1_800_000
"""A server that says no more of a user who is there is believed for so long. Synapse says it again every 25 minutes."""


def presence_claims(edus: list[Any], origin: str, now_ms: int) -> dict[str, Presence]:
    """By user of the origin, what the EDUs say last; what makes no sense is left out and counted. Nothing raises."""
    claims: dict[str, Presence] = {}
    for content in contents_of(edus, PRESENCE):
        push = content.get("push")
        for update in push if type(push) is list else ():
            user_id = update.get("user_id") if type(update) is dict else None
            presence = pushed(update, now_ms) if is_of(user_id, origin) else None
            if presence is None:
                count(PRESENCE, "refused")
            else:
                claims[str(user_id)] = presence
    return claims


def presence_facts(
    claims: Mapping[str, Presence], origin: str, sharing: frozenset[str], envelope: Envelope
) -> list[Fact]:
    """The facts, of the users that share a room with us."""
    count(PRESENCE, "refused", len(claims.keys() - sharing))
    count(PRESENCE, "logged", len(claims.keys() & sharing))
    return [
        PresenceSet(
            envelope,
            user_id,
            said.presence,
            None if said.status_msg is None else said.status_msg.encode("utf-8", "replace"),
            said.last_active_ms,
            said.currently_active,
            0 if said.presence == OFFLINE else envelope.recorded_at_ms + BELIEVED_MS,
            origin,
        )
        for user_id, said in claims.items()
        if user_id in sharing
    ]
