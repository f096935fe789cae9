"""Passing over events that fail checks: what they follow can be had all the same. Pure.

An id that is a hash is one of the event's `prev_events` too. Whoever names the id has said so what that event follows,
whatever its signatures are worth; so a walk may go on behind it, though the event itself is never taken. In room
versions 1 and 2 an id is only a name, and who answers could put anything behind it: there the walk ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.errors import MatrixError
from annals.matrix.hashing import event_id_of
from annals.matrix.redaction import redact
from annals.matrix.room_versions import EventIdFormat, RoomRules

#: More than an event may have is no event's.
_PREV_EVENTS_MAX = 20

PassedOver = Mapping[str, tuple[str, ...]]
"""What each event that failed follows, by its id."""


def follows(pdu: Any, rules: RoomRules) -> tuple[str, tuple[str, ...]] | None:
    """The id of a PDU that failed a check, and what it follows; None where its id does not vouch for that."""
    if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER or type(pdu) is not dict:
        return None
    prev_events = pdu.get("prev_events")
    if type(prev_events) is not list or len(prev_events) > _PREV_EVENTS_MAX:
        return None
    if any(type(event_id) is not str for event_id in prev_events):
        return None
    signed = redact(pdu, rules)
    signed.pop("signatures", None)
    try:
        return event_id_of(canonical_bytes(signed), rules), tuple(prev_events)
    except MatrixError:
        return None


def behind(event_ids: Iterable[str], passed_over: PassedOver) -> tuple[str, ...]:
    """These events; in the place of those that are passed over, what these follow."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    todo = list(event_ids)
    while todo:
        event_id = todo.pop(0)
        if event_id in seen:
            continue
        seen.add(event_id)
        if event_id in passed_over:
            todo += passed_over[event_id]
        else:
            found[event_id] = None
    return tuple(found)
