"""What plans read of a room's view."""

from __future__ import annotations

from typing import Any

from annals.commands.errors import Refused
from annals.matrix.events import Event
from annals.matrix.power_levels import PowerLevels
from annals.rooms.view import RoomView

MEMBER = "m.room.member"
JOIN, INVITE, LEAVE, BAN, KNOCK = "join", "invite", "leave", "ban", "knock"


def require_room(view: RoomView) -> None:
    """Refuse what is asked of a room that is not here."""
    if view.known_header().rules is None:
        raise Refused(404, "M_NOT_FOUND", "Unknown room")


def require_known(view: RoomView) -> None:
    """The same for what only members may do: strangers hear the same of every room, here or not."""
    if view.known_header().rules is None:
        raise Refused(403, "M_FORBIDDEN", "You are not in this room")


def state_event(view: RoomView, event_type: str, state_key: str = "") -> Event | None:
    """The event that holds a key of the current state, as far as the auth rules read it."""
    event_id = view.current_state().get((event_type, state_key))
    entry = view.entry(event_id) if event_id else None
    return entry.event if entry else None


def membership(view: RoomView, user_id: str) -> str | None:
    """The user's current membership; None where there never was one."""
    event = state_event(view, MEMBER, user_id)
    found: Any = event.content.get("membership") if event else None
    return found if isinstance(found, str) else None


def power_levels(view: RoomView) -> PowerLevels:
    """The levels in force."""
    return PowerLevels.of(state_event(view, "m.room.create"), state_event(view, "m.room.power_levels"))
