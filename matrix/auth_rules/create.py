"""Rule 1: m.room.create."""

from __future__ import annotations

from typing import Final

from annals.matrix.auth_rules.case import domain_of
from annals.matrix.auth_rules.rejection import Reason, Rejection, reject
from annals.matrix.events import Event
from annals.matrix.identifiers import is_user_id

# "A recognised version" of rule 1.3: what the specification knows, whether this server supports it or not.
RECOGNISED_VERSIONS: Final = frozenset(str(number) for number in range(1, 13))


def check_create(event: Event) -> Rejection | None:
    """Rule 1. It depends on nothing but the event."""
    rules = event.rules
    # 1. If it has any prev_events, reject.
    if event.prev_events:
        return reject(rules, "create.prev_events", Reason.CREATE_HAS_PREV_EVENTS)
    # v12, 2: If the event has a room_id, reject.
    if rules.room_id_is_create_hash and "room_id" in event.pdu:
        return reject(rules, "create.room_id", Reason.CREATE_ROOM_ID)
    # v1-v11, 2: If the domain of the room_id does not match the domain of the sender, reject.
    if rules.create_room_id_domain_is_senders and domain_of(event.room_id) != domain_of(event.sender):
        return reject(rules, "create.room_id", Reason.CREATE_ROOM_ID)
    # 3. If content.room_version is present and is not a recognised version, reject.
    version = event.content.get("room_version", "1")
    if not isinstance(version, str) or version not in RECOGNISED_VERSIONS:
        return reject(rules, "create.room_version", Reason.UNKNOWN_ROOM_VERSION)
    # v1-v10, 4: If content has no creator property, reject.
    if rules.creator_in_content and "creator" not in event.content:
        return reject(rules, "create.creator", Reason.NO_CREATOR)
    # v12, 4: If additional_creators is present in content and is not an array of strings where each string passes the
    #         same user ID validation applied to sender, reject.
    if rules.creators_have_infinite_power and not _valid_creators(event.content.get("additional_creators", [])):
        return reject(rules, "create.additional_creators", Reason.BAD_ADDITIONAL_CREATORS)
    # 5. Otherwise, allow.
    return None


def _valid_creators(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and is_user_id(item) for item in value)
