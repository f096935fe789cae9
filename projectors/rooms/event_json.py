"""An event in two JSON texts: what clients are shown, ready to send, and what only servers ask for.

    client_json       event_id, room_id, type, sender, content, origin_server_ts, state_key, redacts
    federation_json   every other key of the PDU, and the exact form of what clients see changed

`unsigned` is never in the first, so that a reader splices its own in without parsing:
`client_json[:-1] + ',"unsigned":{...}}'`. The two together give back the exact PDU.
"""

from __future__ import annotations

from typing import Any

from annals.matrix.canonical_json import canonical_bytes, checked_bytes, loads
from annals.matrix.events import Event, event_of
from annals.matrix.format import is_create
from annals.matrix.redaction import redact_content
from annals.matrix.room_versions import ROOM_VERSIONS, EventIdFormat, RoomRules

REDACTION = "m.room.redaction"
_CLIENT_KEYS = frozenset(("room_id", "type", "sender", "content", "origin_server_ts", "state_key"))


def split_event(event: Event) -> tuple[str, str]:
    """(client_json, federation_json) of an event."""
    rules = event.rules
    client: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, value in event.pdu.items():
        (client if key in _CLIENT_KEYS else rest)[key] = value
    client["event_id"] = event.event_id
    client["room_id"] = event.room_id
    if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER:
        rest.pop("event_id", None)
    if event.type == REDACTION:
        _split_redacts(event, client, rest)
    write = checked_bytes if rules.strict_canonical_json else canonical_bytes
    return write(client).decode(), write(rest).decode()


def _split_redacts(event: Event, client: dict[str, Any], rest: dict[str, Any]) -> None:
    # v11, "Moving the redacts property": "servers should add a redacts property to the top level of m.room.redaction
    # events ... when serving such events over the Client-Server API", and to the content in older room versions.
    if event.redacts is None:
        return
    if not event.rules.redacts_in_content:
        rest.pop("redacts", None)
        if event.content.get("redacts") != event.redacts:
            client["content"] = {**event.content, "redacts": event.redacts}
            rest["content"] = event.content
    client["redacts"] = event.redacts


def shown_event(client_json: str, room_version: str, event_id: str, depth: int = 0, redacted: bool = False) -> Event:
    """As much of an event as clients are shown: type, sender, state key, content. It cites nothing.

    Rows keep an event as it came: who reads more of its content than a redaction leaves says if it was `redacted`.
    """
    rules = ROOM_VERSIONS[room_version]
    pdu = {**loads(client_json), "prev_events": [], "auth_events": [], "depth": depth}
    if redacted:
        pdu["content"] = redact_content(pdu["type"], pdu["content"], rules.redaction)
    return event_of(pdu, rules, event_id)


def join_event(client_json: str, federation_json: str, rules: RoomRules) -> dict[str, Any]:
    """The exact PDU that was split into these."""
    pdu: dict[str, Any] = loads(client_json)
    if rules.event_id_format is not EventIdFormat.CHOSEN_BY_SENDER:
        del pdu["event_id"]
    if rules.room_id_is_create_hash and is_create(pdu):
        del pdu["room_id"]
    if rules.redacts_in_content:
        pdu.pop("redacts", None)
    pdu.update(loads(federation_json))
    return pdu
