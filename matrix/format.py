"""Event format and size limits: check 1 on receipt of a PDU. What fails here is dropped.

Only what the room version's schema requires is looked at; `content` is the auth rules' business.
"""

from __future__ import annotations

from typing import Any

from annals.matrix.canonical_json import INTEGER_MAX, check_strict
from annals.matrix.errors import InvalidEvent, NotCanonical
from annals.matrix.hashing import event_bytes
from annals.matrix.identifiers import is_event_id, is_hashed_room_id, is_room_id, is_user_id
from annals.matrix.room_versions import EventIdFormat, RoomRules

EVENT_BYTES_MAX = 65_536
FIELD_BYTES_MAX = 255
PREV_EVENTS_MAX = 20
AUTH_EVENTS_MAX = 10

_DEPTH_MAX_LOOSE = 2**63 - 1
#: At most 4 bytes a character: most strings need no encoding to know that they fit.
_SHORT = FIELD_BYTES_MAX // 4


def check_format(pdu: dict[str, Any], rules: RoomRules) -> None:
    """Raise `InvalidEvent` unless the PDU has the format of its room version and keeps to the size limits."""
    if type(pdu) is not dict:
        raise InvalidEvent("not an object")
    try:
        # v6+: "Servers MUST strictly enforce the JSON format specified in the appendices."
        if rules.strict_canonical_json:
            check_strict(pdu)
        size_bytes = len(event_bytes(pdu, rules))
    except NotCanonical as error:
        raise InvalidEvent(str(error)) from None
    # "The complete event MUST NOT be larger than 65536 bytes"
    if size_bytes > EVENT_BYTES_MAX:
        raise InvalidEvent("the event is larger than 65536 bytes")
    check_fields(pdu, rules)


def check_fields(pdu: dict[str, Any], rules: RoomRules) -> None:
    """The part of `check_format` that looks at single keys, for an event whose JSON was looked at already."""
    _check_names(pdu)
    _check_numbers(pdu, rules)
    _check_ids(pdu, rules)
    _check_references(pdu, rules)
    _check_hashes_and_signatures(pdu)


def without_unsigned(pdu: dict[str, Any]) -> dict[str, Any]:
    """The PDU without `unsigned`, which nobody vouches for and which would count towards the size."""
    return {key: value for key, value in pdu.items() if key != "unsigned"} if "unsigned" in pdu else pdu


def _check_names(pdu: dict[str, Any]) -> None:
    event_type, sender, state_key = pdu.get("type"), pdu.get("sender"), pdu.get("state_key", "")
    # "`type` MUST NOT exceed 255 bytes."
    if type(event_type) is not str or not _fits(event_type):
        raise InvalidEvent("type is missing, not a string, or too long")
    # "`state_key` MUST NOT exceed 255 bytes."
    if type(state_key) is not str or not _fits(state_key):
        raise InvalidEvent("state_key is not a string, or too long")
    # "`sender` MUST NOT exceed the size limit for user IDs."
    if type(sender) is not str or not is_user_id(sender):
        raise InvalidEvent("sender is missing or no user id")
    if type(pdu.get("content")) is not dict:
        raise InvalidEvent("content is missing or not an object")


def _check_numbers(pdu: dict[str, Any], rules: RoomRules) -> None:
    depth = pdu.get("depth")
    # "Must be less than the maximum value for an integer"; "If the room's depth is already at the limit, the depth
    # must be set to the limit": the limit itself passes.
    depth_max = INTEGER_MAX if rules.strict_canonical_json else _DEPTH_MAX_LOOSE
    if type(depth) is not int or not 0 <= depth <= depth_max:
        raise InvalidEvent("depth is missing, not an integer, or out of range")
    if type(pdu.get("origin_server_ts")) is not int:
        raise InvalidEvent("origin_server_ts is missing or not an integer")


def _check_ids(pdu: dict[str, Any], rules: RoomRules) -> None:
    if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER:
        event_id = pdu.get("event_id")
        if type(event_id) is not str or not is_event_id(event_id):
            raise InvalidEvent("event_id is missing or no event id")
    # v3+: the id is a hash of the event; redaction would keep a key of that name and hash it into the id.
    elif "event_id" in pdu:
        raise InvalidEvent("event_id must not be part of the event")
    room_id = pdu.get("room_id")
    if rules.room_id_is_create_hash:
        # v12: "Omitted from `m.room.create` events."
        if is_create(pdu):
            if "room_id" in pdu:
                raise InvalidEvent("a create event of this room version has no room_id")
        elif type(room_id) is not str or not is_hashed_room_id(room_id):
            raise InvalidEvent("room_id is missing or not the hash of a create event")
    elif type(room_id) is not str or not is_room_id(room_id):
        raise InvalidEvent("room_id is missing or no room id")


def is_create(pdu: dict[str, Any]) -> bool:
    """Whether this is the event that makes a room: m.room.create with the empty state key."""
    return pdu.get("type") == "m.room.create" and pdu.get("state_key") == ""


def _check_references(pdu: dict[str, Any], rules: RoomRules) -> None:
    with_hashes = rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER
    for name, count_max in (("prev_events", PREV_EVENTS_MAX), ("auth_events", AUTH_EVENTS_MAX)):
        references = pdu.get(name)
        if type(references) is not list:
            raise InvalidEvent(f"{name} is missing or not an array")
        # "Must contain less than or equal to 20 events" (prev_events), "... 10 events" (auth_events)
        if len(references) > count_max:
            raise InvalidEvent(f"{name} has more than {count_max} entries")
        for reference in references:
            # v1-2: [event id, {"sha256": hash}]; v3+: the event id
            if with_hashes:
                if type(reference) is not list or len(reference) != 2 or type(reference[1]) is not dict:
                    raise InvalidEvent(f"{name} has an entry that is not an id and its hashes")
                reference = reference[0]
            if type(reference) is not str or reference[:1] != "$" or not (len(reference) <= _SHORT or _fits(reference)):
                raise InvalidEvent(f"{name} has an entry that is no event id")


def _check_hashes_and_signatures(pdu: dict[str, Any]) -> None:
    hashes, signatures = pdu.get("hashes"), pdu.get("signatures")
    if type(hashes) is not dict or type(hashes.get("sha256")) is not str:
        raise InvalidEvent("hashes.sha256 is missing or not a string")
    if type(signatures) is not dict or any(type(by_key) is not dict for by_key in signatures.values()):
        raise InvalidEvent("signatures is missing or not an object of objects")


def _fits(text: str) -> bool:
    return len(text) <= _SHORT or len(text.encode("utf-8")) <= FIELD_BYTES_MAX
