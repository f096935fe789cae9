"""Member events that other servers hand in, as far as they can be judged without tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.resident.errors import invalid
from annals.ingest.verification import Candidate, KeyUnavailable, Quarantined, Verified
from annals.matrix.format import without_unsigned
from annals.matrix.identifiers import domain_of, is_room_id, is_user_id
from annals.matrix.room_versions import RoomRules
from annals.projectors.positions.errors import TryAgain

MEMBER = "m.room.member"


@dataclass(frozen=True, slots=True)
class HandedIn:
    """A request: who sent it, the path that it came by, the event in its body, and the id of the request."""

    origin: str
    room_id: str
    event_id: str
    pdu: dict[str, Any]
    cause: str


def check_member(handed: HandedIn, membership: str) -> str:
    """The event's state key; raises InputRefused where it is not such an event of the origin, or of another room.

    "servers SHOULD return M_INVALID_PARAM if: … The event type is not m.room.member. The membership field inside the
    event content is not `join`. The event sender is not a user ID on the origin server."
    """
    pdu, content = handed.pdu, handed.pdu.get("content")
    if pdu.get("type") != MEMBER or type(content) is not dict or content.get("membership") != membership:
        raise invalid(f"Not an event of membership {membership}")
    # Security row 6: what the path says and what is signed are one.
    if not is_room_id(handed.room_id) or pdu.get("room_id") != handed.room_id:
        raise invalid("The event is of another room than the path")
    sender, state_key = pdu.get("sender"), pdu.get("state_key")
    if type(sender) is not str or not is_user_id(sender) or domain_of(sender) != handed.origin:
        raise invalid("The sender is no user of the requesting server")
    if type(state_key) is not str or not is_user_id(state_key):
        raise invalid("The state key is no user id")
    return state_key


async def verified(verifier: PduVerifier, handed: HandedIn, pdu: dict[str, Any], rules: RoomRules) -> Verified:
    """`pdu` (the one handed in, or that with our signature), if it passes checks 1 to 3 and has the id of the path.

    Raises InputRefused, and TryAgain where a key cannot be had now.
    """
    (outcome,) = await verifier.verify([Candidate(without_unsigned(pdu), rules, handed.event_id)])
    if isinstance(outcome, KeyUnavailable):
        raise TryAgain(outcome.detail)
    if isinstance(outcome, Quarantined):
        raise invalid(f"{outcome.reason}: {outcome.detail}"[:500])
    # What would be redacted on its way is not what its server meant to hand in.
    if not outcome.content_hash_ok:
        raise invalid("The content hash is wrong")
    return outcome
