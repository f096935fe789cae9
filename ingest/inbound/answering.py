"""Which PDUs answer an invite or a knock that we hold, in a room of which we hold no more.

We cannot judge such an event by the room's state. It counts by what it cites: the very event that we hold, of the very
user it is about; so nobody who was not shown that one can take it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annals.ingest.inbound.standing import Found
from annals.matrix.errors import MatrixError
from annals.matrix.identifiers import domain_of
from annals.matrix.room_versions import RoomRules

_ANSWERS = ("leave", "ban")


def rules_of_answer(found: Found, room_id: str | None, pdu: Any, origin: str) -> RoomRules | None:
    """The rules by which to verify a PDU that answers an invite or a knock that we hold; None where it answers none."""
    asked = found.asked.get(room_id) if room_id is not None else None
    answers = asked is not None and type(pdu) is dict and _answers(pdu, asked.held, origin)
    return asked.rules if asked is not None and answers else None


def _answers(pdu: dict[str, Any], held: Mapping[str, str], origin: str) -> bool:
    content, user_id, sender = pdu.get("content"), pdu.get("state_key"), pdu.get("sender")
    if pdu.get("type") != "m.room.member" or type(user_id) is not str or user_id not in held:
        return False
    if type(content) is not dict or content.get("membership") not in _ANSWERS or type(sender) is not str:
        return False
    try:
        if domain_of(sender) != origin:
            return False
    except MatrixError:
        return False
    return held[user_id] in _cited(pdu.get("prev_events")) | _cited(pdu.get("auth_events"))


def _cited(references: Any) -> set[str]:
    """Event ids; versions 1 and 2 have them in pairs with hashes."""
    found = set()
    for item in references if type(references) is list else ():
        event_id = item[0] if type(item) is list and item else item
        if type(event_id) is str:
            found.add(event_id)
    return found
