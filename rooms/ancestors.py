"""The events that another one refers to: which are here, and which are lacking."""

from __future__ import annotations

from collections.abc import Iterable

from annals.matrix.events import Event
from annals.matrix.room_versions import RoomRules
from annals.rooms.needs import Needs
from annals.rooms.state import Lacking
from annals.rooms.view import Entry, RoomView


def permitting_ids(event: Event) -> tuple[str, ...]:
    """The events that must be here to judge it by check 4.

    From version 12 on the room id stands for the create event: none is cited, and yet it is needed.
    """
    if event.rules.create_cited_in_auth_events or event.type == "m.room.create":
        return event.auth_events
    return (*event.auth_events, create_id_of(event.room_id))


def cited_ids(
    room_id: str, event_id: str, event_type: str, auth_events: Iterable[str], rules: RoomRules
) -> tuple[str, ...]:
    """What an event leads to in the auth graph: no id twice, and never itself."""
    implied = () if rules.create_cited_in_auth_events or event_type == "m.room.create" else (create_id_of(room_id),)
    return tuple(other for other in dict.fromkeys((*auth_events, *implied)) if other != event_id)


def create_id_of(room_id: str) -> str:
    """The id of the create event whose hash is the room's id (version 12)."""
    return "$" + room_id[1:]


def entries_of(view: RoomView, event_ids: Iterable[str]) -> tuple[Entry, ...]:
    """The entries of events that are here; raises one Lacking for all that are not loaded."""
    found, lacking = [], []
    for event_id in event_ids:
        if event_id not in view.events:
            lacking.append((view.room_id, event_id))
        elif (entry := view.events[event_id]) is not None:
            found.append(entry)
    if lacking:
        raise Lacking(Needs(events=frozenset(lacking)))
    return tuple(found)


def missing_ancestors(view: RoomView, event: Event, outlier: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(prev_events, auth_events) that are not present. Asked by existence; an outlier needs no prev_events."""
    prev_ids = () if outlier else event.prev_events
    auth_ids = permitting_ids(event)
    here = {entry.event.event_id: entry for entry in entries_of(view, (*prev_ids, *auth_ids))}
    prev = tuple(event_id for event_id in prev_ids if not (event_id in here and here[event_id].known))
    auth = tuple(event_id for event_id in auth_ids if not (event_id in here and here[event_id].present_as_auth))
    return prev, auth
