"""Who of a room is ours, and what the memberships of many events are: asked of the tables, not of the state."""

from __future__ import annotations

from collections.abc import Iterable

from annals.rooms.needs import Needs
from annals.rooms.state import Lacking
from annals.rooms.step import Step
from annals.rooms.view import RoomView


def is_resident(step: Step, server_name: str) -> bool:
    """Whether a user of this server, which is ours, has joined the room by its current state."""
    moved = {user: m for user, m in step.view.beside.moved.items() if server_of(user) == server_name}
    if "join" in moved.values():
        return True
    others = tuple(sorted(moved))
    found = step.view.beside.residents.get(others)
    if found is None:
        raise Lacking(Needs(residents=frozenset([(step.view.room_id, others)])))
    return found


def local_membership(step: Step, user_id: str) -> str | None:
    """The membership of a user of ours, by the room's current state or by what we were told out of band."""
    beside = step.view.beside
    for known in (beside.moved, beside.memberships):
        if user_id in known:
            return known[user_id]
    raise Lacking(Needs(memberships=frozenset([(step.view.room_id, user_id)])))


def server_of(user_id: str) -> str | None:
    """The server name in a user id; None in what is none (a state key may be anything)."""
    return user_id.partition(":")[2] if user_id.startswith("@") else None


def memberships(view: RoomView, event_ids: Iterable[str]) -> dict[str, str | None]:
    """The membership of each of these events, all of which are here; raises one Lacking for those not loaded."""
    found: dict[str, str | None] = {}
    lacking = []
    for event_id in event_ids:
        entry = view.events.get(event_id)
        if entry is not None:
            membership = entry.event.content.get("membership")
            found[event_id] = membership if isinstance(membership, str) else None
        elif (glimpse := view.beside.glimpses.get(event_id)) is not None:
            found[event_id] = glimpse.membership
        elif event_id not in view.events:
            lacking.append((view.room_id, event_id))
    if lacking:
        raise Lacking(Needs(events=frozenset(lacking)))
    return found
