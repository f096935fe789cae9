"""Plans that send one event of a member, and what is asked of some types of events beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annals.commands.errors import Refused
from annals.commands.rooms.plans import Plan, Send
from annals.commands.rooms.reading import JOIN, membership, power_levels, require_known
from annals.matrix.identifiers import is_event_id
from annals.rooms.heads import Intent
from annals.rooms.view import ACCEPTED, RoomView

REDACTION = "m.room.redaction"
#: The key stands in an index, whose entries have a size limit; escapes may double it there.
KEY_BYTES_MAX = 1_200


def check_key(key: str | None) -> None:
    """Refuse a transaction id that no index can hold."""
    if key is not None and len(key.encode()) > KEY_BYTES_MAX:
        raise Refused(400, "M_INVALID_PARAM", "The transaction id is too long")


def intent_of(
    sender: str, event_type: str, content: dict[str, Any], state_key: str | None, key: str | None, cause: str
) -> Intent:
    """The intent behind a request. What a redaction redacts is moved to where each room version keeps it."""
    if event_type != REDACTION:
        return Intent(sender, event_type, content, state_key, None, key, cause)
    redacts = content.get("redacts")
    if redacts is None:
        raise Refused(400, "M_MISSING_PARAM", "redacts is missing")
    if not isinstance(redacts, str) or not is_event_id(redacts):
        raise Refused(400, "M_BAD_JSON", "redacts must be an event id")
    rest = {name: value for name, value in content.items() if name != "redacts"}
    return Intent(sender, event_type, rest, state_key, redacts, key, cause)


def send(intent: Intent) -> Plan:
    """Send an event; the room's rules say whether that is allowed."""

    def plan(view: RoomView) -> Send:
        require_known(view)
        return Send((intent,))

    return plan


def redact(intent: Intent, event_id: str) -> Plan:
    """Send a redaction. The rules would let it pass and then ignore it: who may not redact is told so."""

    def plan(view: RoomView) -> Send:
        require_known(view)
        # A retry is answered as the first try was, whatever the sender may do by now.
        if intent.idempotency_key is not None and view.first_of_key(intent.idempotency_key) is not None:
            return Send((intent,))
        # Who is not in the room learns nothing of its events.
        if membership(view, intent.sender) != JOIN:
            raise Refused(403, "M_FORBIDDEN", "You are not in this room")
        target = view.entry(event_id)
        if target is None or target.outlier or target.verdict != ACCEPTED:
            raise Refused(404, "M_NOT_FOUND", "There is no such event in this room")
        # "may send redactions for their own events ... If the user's power level is also greater than or equal to the
        # `redact` power level of the room, the user may redact events sent by other users."
        levels = power_levels(view)
        if target.event.sender != intent.sender and levels.user(intent.sender) < levels.named("redact"):
            raise Refused(403, "M_FORBIDDEN", "You may not redact other users' events")
        return Send((intent,))

    return plan


def annotation_of(content: Mapping[str, Any]) -> tuple[str, str] | None:
    """(event id, key) of an m.annotation; None for another event."""
    relation = content.get("m.relates_to")
    if not isinstance(relation, dict) or relation.get("rel_type") != "m.annotation":
        return None
    parent, key = relation.get("event_id"), relation.get("key")
    return (parent, key) if isinstance(parent, str) and isinstance(key, str) else None
