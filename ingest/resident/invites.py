"""PUT invite: somebody of another server invites one of our users. We sign, log, and give the signed event back.

In a room that we are in, the invite is an event as any other; elsewhere all that we have of the room is what came with
it, and it is logged as a membership that stands outside of any timeline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.federation.client import Identity
from annals.ingest.pdu_facts import pdu_received
from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.resident.errors import InputRefused, forbidden, invalid
from annals.ingest.resident.member_events import HandedIn, check_member, verified
from annals.ingest.resident.room_state import room_state
from annals.ingest.resident.verdicts import Standing, verdict_of
from annals.ingest.verification import Verified
from annals.matrix.canonical_json import loads
from annals.matrix.errors import InvalidJson
from annals.matrix.events import event_of
from annals.matrix.identifiers import domain_of
from annals.matrix.room_versions import ROOM_VERSIONS, RoomRules
from annals.matrix.signing import sign_event
from annals.projectors.positions.appending import Appender
from annals.projectors.rooms.standing import RoomStanding, standings
from annals.projectors.sealables import unpacked
from annals.schemas.facts.rooms import MembershipReceived

_INVITEE_SQL = """
    SELECT a.deactivated, d.content FROM accounts a
    LEFT JOIN account_data d ON d.user_id = a.user_id AND d.room_id = '' AND d.type = 'm.invite_permission_config'
    WHERE a.user_id = %s
"""
VIA = "invite"


@dataclass(frozen=True, slots=True)
class _Known:
    standing: RoomStanding | None
    verdict: Standing | None
    invitee: tuple[bool, bytes | None] | None


class Invites:
    """Takes invites. Raises InputRefused, and what `positions.errors.NOT_NOW` lists."""

    def __init__(self, appender: Appender, database: Database, verifier: PduVerifier, identity: Identity) -> None:
        self._appender, self._database, self._verifier, self._identity = appender, database, verifier, identity

    async def receive(self, handed: HandedIn, room_version: object, state: Any) -> dict[str, Any]:
        """The invite, with our signature; `state` is what came along to show the room by."""
        rules = _rules_of(room_version)
        user_id = check_member(handed, "invite")
        # "The `state_key` is not a user ID on the receiving server."
        if domain_of(user_id) != self._identity.server_name:
            raise invalid("The invited user is not of this server")
        known = await self._database.read(lambda snapshot: _known(snapshot, handed, user_id))
        joined = _check(known, handed.origin, rules)
        event = self._signed(await verified(self._verifier, handed, handed.pdu, rules))
        if known.verdict is None or not known.verdict.final:
            text = b"[]" if joined else await room_state(self._verifier, state, handed.room_id, rules)
            verdict = await self._log(event, handed, None if joined else text)
        else:
            verdict = known.verdict
        # What follows events that we lack is decided later: the user hears of it then.
        if verdict is not None and verdict.final and not verdict.accepted:
            raise forbidden(f"The room does not let that happen: {verdict.reason or verdict.verdict}")
        return event.event.pdu

    def _signed(self, found: Verified) -> Verified:
        rules = found.event.rules
        pdu = sign_event(found.event.pdu, rules, self._identity.server_name, self._identity.key)
        return replace(found, event=event_of(pdu, rules, found.event.event_id))

    async def _log(self, event: Verified, handed: HandedIn, state: bytes | None) -> Standing | None:
        envelope = self._appender.envelope(handed.cause)
        received = pdu_received(event, envelope, handed.origin, VIA)
        if state is None:
            await self._appender.submit_and_settle([received])
        else:
            await self._appender.submit_and_settle([_out_of_band(received, state)])
        return await self._database.read(lambda snapshot: verdict_of(snapshot, handed.room_id, handed.event_id))


def _out_of_band(received: Any, state: bytes) -> MembershipReceived:
    return MembershipReceived(
        envelope=received.envelope,
        room_id=received.room_id,
        event_id=received.event_id,
        room_version=received.room_version,
        skeleton=received.skeleton,
        body=received.body,
        origin=received.origin,
        via=received.via,
        signatures=received.signatures,
        content_hash_ok=received.content_hash_ok,
        room_state=state,
        handshake_id=None,
    )


def _known(snapshot: Snapshot, handed: HandedIn, user_id: str) -> _Known:
    row = snapshot.one(_INVITEE_SQL, (user_id,))
    return _Known(
        standings(snapshot, [handed.room_id]).get(handed.room_id),
        verdict_of(snapshot, handed.room_id, handed.event_id),
        (row[0], row[1]) if row else None,
    )


def _check(known: _Known, origin: str, rules: RoomRules) -> bool:
    """Whether we are in the room; raises InputRefused where the invite may not be."""
    if known.invitee is None or known.invitee[0]:
        raise forbidden("There is no such user here")
    # "The `M_INVITE_BLOCKED` error code is used to indicate that the homeserver rejected the invite due to invite
    # blocking."
    if _blocks_invites(known.invitee[1]):
        raise InputRefused(403, "M_INVITE_BLOCKED", "The user takes no invites")
    if known.standing is None or not known.standing.joined:
        return False
    if known.standing.rules is not rules:
        raise invalid(f"The room has version {known.standing.rules.version}")
    if not known.standing.admits(origin):
        raise forbidden("The room's access control list bars the server")
    return True


def _blocks_invites(column: bytes | None) -> bool:
    content = unpacked(bytes(column)) if column is not None else None
    try:
        value = loads(content) if isinstance(content, bytes) else None
    except InvalidJson:
        return False
    return type(value) is dict and value.get("default_action") == "block"


def _rules_of(room_version: object) -> RoomRules:
    if room_version is None:
        raise InputRefused(400, "M_MISSING_PARAM", "room_version is missing")
    rules = ROOM_VERSIONS.get(room_version) if type(room_version) is str else None
    if rules is None:
        shown = room_version[:100] if type(room_version) is str else ""
        raise InputRefused(
            400, "M_INCOMPATIBLE_ROOM_VERSION", "This server has no rooms of that version", {"room_version": shown}
        )
    return rules
