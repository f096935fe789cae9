"""PUT send_join, send_leave and send_knock: another server's user joins, leaves or knocks by way of us.

shape ─▶ room, ACL ─▶ signatures ─▶ our leave, where the join is restricted ─▶ policy server ─▶ log ─▶ tables ─▶ verdict
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from annals.database.pool import Database
from annals.federation.client import Identity
from annals.ingest.pdu_facts import pdu_received
from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.resident.errors import InputRefused, forbidden, invalid
from annals.ingest.resident.member_events import HandedIn, check_member, verified
from annals.ingest.resident.policy import PolicyChecks
from annals.ingest.resident.verdicts import Standing, verdict_of
from annals.ingest.verification import Verified
from annals.matrix.errors import MatrixError
from annals.matrix.format import check_format, without_unsigned
from annals.matrix.identifiers import domain_of, is_user_id
from annals.matrix.room_versions import RoomRules
from annals.matrix.signing import sign_event
from annals.projectors.positions.appending import Appender
from annals.projectors.positions.errors import TryAgain
from annals.projectors.rooms.standing import RoomStanding, standings

#: (room id, user id, the user of ours who is named): raises what the asking server is to be told, where it may not be.
CheckAuthorised = Callable[[str, str, str], Awaitable[None]]
_AUTHORISER = "join_authorised_via_users_server"


class SentHandshakes:
    """Takes the second half of handshakes. Raises InputRefused, and what `positions.errors.NOT_NOW` lists."""

    def __init__(
        self,
        appender: Appender,
        database: Database,
        verifier: PduVerifier,
        identity: Identity,
        check_authorised: CheckAuthorised,
        policy: PolicyChecks,
    ) -> None:
        self._appender, self._database, self._verifier = appender, database, verifier
        self._identity, self._check_authorised, self._policy = identity, check_authorised, policy

    async def receive(self, handed: HandedIn, membership: str) -> dict[str, Any]:
        """Take an event of this membership (join, leave or knock) into its room; the PDU that is there now."""
        user_id = check_member(handed, membership)
        # "The `state_key` is not equal to the `sender`."
        if handed.pdu["sender"] != user_id:
            raise invalid("The state key is not the sender")
        standing, known = await self._database.read(
            lambda snapshot: (
                standings(snapshot, [handed.room_id]).get(handed.room_id),
                verdict_of(snapshot, handed.room_id, handed.event_id),
            )
        )
        rules = _admitting(standing, handed.origin)
        authoriser = self._authoriser_of_ours(handed.pdu, rules)
        # Our signature leaves this function only when all else has passed.
        pdu = self._signed(handed.pdu, rules) if authoriser else handed.pdu
        event = await verified(self._verifier, handed, pdu, rules)
        if known is None or known.outlier or not known.final:
            if authoriser is not None:
                await self._check_authorised(handed.room_id, user_id, authoriser)
            # Who joins knows the room too little to have asked its policy server.
            event = replace(event, event=await self._policy.recommended(event.event))
            known = await self._log(event, handed, membership)
        if not known.accepted:
            raise forbidden(f"The room does not let that happen: {known.reason or known.verdict}")
        return event.event.pdu

    def _authoriser_of_ours(self, pdu: dict[str, Any], rules: RoomRules) -> str | None:
        named = pdu["content"].get(_AUTHORISER) if rules.restricted_join else None
        if type(named) is not str or not is_user_id(named) or domain_of(named) != self._identity.server_name:
            return None
        return named

    def _signed(self, pdu: dict[str, Any], rules: RoomRules) -> dict[str, Any]:
        """ "the signature must be added before sending or persisting the event to other servers"."""
        try:
            check_format(without_unsigned(pdu), rules)
            return sign_event(pdu, rules, self._identity.server_name, self._identity.key)
        except MatrixError as error:
            raise invalid(str(error)) from None

    async def _log(self, event: Verified, handed: HandedIn, membership: str) -> Standing:
        appender = self._appender
        fact = pdu_received(event, appender.envelope(handed.cause), handed.origin, f"send_{membership}")
        await appender.submit_and_settle([fact])
        found = await self._database.read(lambda snapshot: verdict_of(snapshot, handed.room_id, handed.event_id))
        if found is None or found.verdict in ("parked", "pending_policy"):
            # It follows what we have not got yet; the same request later finds what became of it.
            raise TryAgain("the event is not decided yet")
        return found


def _admitting(standing: RoomStanding | None, origin: str) -> RoomRules:
    """The rules of a room of ours that the server may take part in."""
    if standing is None or not standing.joined:
        raise InputRefused(404, "M_NOT_FOUND", "This server is not in the room")
    if not standing.admits(origin):
        raise forbidden("The room's access control list bars the server")
    return standing.rules
