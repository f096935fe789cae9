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
    return tuple([entry for entry in _each(view, tuple(event_ids)) if entry is not None])


def _each(view: RoomView, event_ids: tuple[str, ...]) -> list[Entry | None]:
    """What is known of each; raises one Lacking for all that are not loaded."""
    events = view.events
    try:
        return [events[event_id] for event_id in event_ids]
    except KeyError:
        lacking = frozenset((view.room_id, event_id) for event_id in event_ids if event_id not in events)
        raise Lacking(Needs(events=lacking)) from None


def missing_ancestors(view: RoomView, event: Event, outlier: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(prev_events, auth_events) that are not present. Asked by existence; an outlier needs no prev_events."""
    prev_ids = () if outlier else event.prev_events
    auth_ids = permitting_ids(event)
    entries = _each(view, (*prev_ids, *auth_ids))
    before, permitting = entries[: len(prev_ids)], entries[len(prev_ids) :]
    prev = [i for i, entry in zip(prev_ids, before, strict=True) if entry is None or not entry.known]
    auth = [i for i, entry in zip(auth_ids, permitting, strict=True) if entry is None or not entry.present_as_auth]
    return tuple(prev), tuple(auth)
