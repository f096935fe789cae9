"""Room history visibility: may this user see this event (client-server API, "Room History Visibility")."""

from __future__ import annotations

from enum import StrEnum

from annals.matrix.events import Event


class HistoryVisibility(StrEnum):
    """The four settings of m.room.history_visibility."""

    WORLD_READABLE = "world_readable"
    SHARED = "shared"
    INVITED = "invited"
    JOINED = "joined"


_KNOWN = frozenset(HistoryVisibility)
_PRESENT = frozenset({"join", "invite", "knock"})


def visibility_of(setting: Event | None) -> HistoryVisibility:
    """The setting that an m.room.history_visibility event makes; None where the room has no such event."""
    return _understood(None if setting is None else setting.content.get("history_visibility"))


def may_see(
    event: Event, user_id: str, *, visibility: HistoryVisibility, membership: str | None, joined_later: bool
) -> bool:
    """Whether the user may see the event.

    `visibility` and `membership` (the user's; None where they never had one) are those of the room state *before* the
    event. `joined_later`: the user joined at some point after the event was sent; for one who is joined now and was
    not joined at the event, that is so.
    """
    if _allowed(visibility, membership, joined_later):
        return True
    # "For m.room.history_visibility events themselves, the user should be allowed to see the event if the
    # history_visibility before or after the event would allow them to see it."
    if event.type == "m.room.history_visibility" and event.state_key == "":
        return _allowed(visibility_of(event), membership, joined_later)
    # "Likewise, for the user's own m.room.member events, ... if their membership before or after the event would"
    if event.type == "m.room.member" and event.state_key == user_id:
        after = event.content.get("membership")
        # NOTSPEC: what ends a user's own invite or knock is shown, or their clients would keep the room in the list.
        if membership in _PRESENT and after in ("leave", "ban"):
            return True
        return _allowed(visibility, after if isinstance(after, str) else None, joined_later)
    return False


def _allowed(visibility: HistoryVisibility, membership: str | None, joined_later: bool) -> bool:
    # 1. If the history_visibility was set to world_readable, allow.
    if visibility is HistoryVisibility.WORLD_READABLE:
        return True
    # 2. If the user's membership was join, allow.
    if membership == "join":
        return True
    # 3. If history_visibility was set to shared, and the user joined the room at any point after the event was sent,
    #    allow.
    if visibility is HistoryVisibility.SHARED and joined_later:
        return True
    # 4. If the user's membership was invite, and the history_visibility was set to invited, allow.
    # 5. Otherwise, deny.
    return visibility is HistoryVisibility.INVITED and membership == "invite"


def _understood(value: object) -> HistoryVisibility:
    # "By default if no history_visibility is set, or if the value is not understood, the visibility is assumed to be
    # shared."
    return HistoryVisibility(value) if isinstance(value, str) and value in _KNOWN else HistoryVisibility.SHARED
