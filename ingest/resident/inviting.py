"""Inviting a user of another server: it signs the event too, before anybody else hears of it.

What it gives back is its signature and nothing else: the event stays ours, whatever its answer says.
"""

from __future__ import annotations

from typing import Any

from annals.federation.client import FederationClient, path_of
from annals.federation.errors import BadAnswer, FederationError, Refused
from annals.ingest.keyring import KeyNeed, Keyring
from annals.ingest.resident.errors import InputRefused
from annals.matrix.errors import SignatureInvalid
from annals.matrix.events import Event, event_of
from annals.matrix.hashing import signing_bytes
from annals.matrix.room_versions import EventIdFormat
from annals.matrix.server_keys import KnownKey
from annals.matrix.signing import signature_key_ids

TIMEOUT_S = 30.0
_KEY_IDS_MAX = 8


class AskedToSign:
    """Asks other servers to sign our invites."""

    def __init__(self, client: FederationClient, keyring: Keyring) -> None:
        self._client, self._keyring = client, keyring

    async def invite(self, server: str, event: Event, state: list[dict[str, Any]]) -> Event:
        """The invite with the server's signature added. Raises InputRefused: what our user is to be told."""
        try:
            answer = await self._ask(server, event, state)
            signed = answer.get("event") if type(answer) is dict else None
            if type(signed) is not dict:
                raise BadAnswer(server, "no event")
            return await self._with_signature(server, event, signed)
        except Refused as refused:
            raise _told(refused) from refused
        except FederationError as error:
            raise InputRefused(502, "M_UNKNOWN", f"{server} could not be asked: {error.reason}"[:500]) from error

    async def _ask(self, server: str, event: Event, state: list[dict[str, Any]]) -> Any:
        content = {"event": event.pdu, "room_version": event.rules.version, "invite_room_state": state}
        path = path_of("federation", "v2", "invite", event.room_id, event.event_id)
        try:
            return await self._client.put(server, path, content, timeout_s=TIMEOUT_S)
        except Refused as refused:
            # "Senders which receive a 400 or 404 response to this endpoint should retry using the v1 API as the server
            # may be older, if the room version is "1" or "2"."
            old = event.rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER
            unknown = refused.status in (400, 404, 405) and refused.errcode in ("", "M_UNRECOGNIZED")
            if not (old and unknown):
                raise
        path = path_of("federation", "v1", "invite", event.room_id, event.event_id)
        content = {**event.pdu, "unsigned": {"invite_room_state": state}}
        answer = await self._client.put(server, path, content, timeout_s=TIMEOUT_S)
        return answer[1] if type(answer) is list and len(answer) == 2 else None

    async def _with_signature(self, server: str, event: Event, answered: dict[str, Any]) -> Event:
        until_ms = max(0, event.origin_server_ts) if event.rules.signing_key_validity else 0
        key_ids = sorted(signature_key_ids(answered, server))[:_KEY_IDS_MAX]
        keys = await self._keyring.keys({KeyNeed(server, key_id, until_ms) for key_id in key_ids})
        message = signing_bytes(event.pdu, event.rules)
        good: dict[str, str] = {}
        for need, key in keys.items():
            signature = answered["signatures"][server][need.key_id]
            if not isinstance(key, KnownKey) or type(signature) is not str:
                continue
            try:
                key.key.verify(message, signature)
            except SignatureInvalid as error:
                raise BadAnswer(server, "it signed something else") from error
            good[need.key_id] = signature
        if not good:
            raise BadAnswer(server, "it has not signed the invite")
        # It may be the room's policy server too, whose signature the event has already.
        signatures = event.pdu["signatures"]
        pdu = {**event.pdu, "signatures": {**signatures, server: {**signatures.get(server, {}), **good}}}
        return event_of(pdu, event.rules, event.event_id)


def _told(refused: Refused) -> InputRefused:
    reason = refused.message or f"{refused.server} refuses the invite"
    # What the invited user's server forbids is the answer; so is that it is asked too often.
    if refused.status in (403, 429) and refused.errcode:
        return InputRefused(refused.status, refused.errcode, reason)
    if refused.errcode in ("M_INCOMPATIBLE_ROOM_VERSION", "M_UNSUPPORTED_ROOM_VERSION"):
        return InputRefused(400, "M_UNSUPPORTED_ROOM_VERSION", reason)
    # "If `M_MISSING_PARAM` or `M_INVALID_PARAM` is returned and the request is associated with a Client-Server API
    # request, the Client-Server API request SHOULD fail with a 5xx error rather than being passed through."
    return InputRefused(502, "M_UNKNOWN", str(refused)[:500])
