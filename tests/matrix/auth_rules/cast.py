"""A room in which there is somebody of every membership.

alice  creator: 100, in version 12 infinite     carol  never was here     erin   invited
mod    50                                       dave   banned             frank  knocking
max    50                                       gina   left               bob    joined, 0
"""

from __future__ import annotations

from typing import Any

from tests.support.room_events import RoomEvents, State, state_of, user

MEMBERSHIPS = {
    "alice": "join",
    "mod": "join",
    "max": "join",
    "bob": "join",
    "dave": "ban",
    "erin": "invite",
    "frank": "knock",
    "gina": "leave",
}


def power_levels(version: str, **changed: int) -> dict[str, Any]:
    """The content that is in force in the room, with some named levels changed."""
    users = {user("mod"): 50, user("max"): 50}
    if version != "12":
        users[user("alice")] = 100
    return {
        "users": users,
        "events": {"m.room.name": 50, "m.room.encryption": 100},
        "notifications": {"room": 50},
        "redact": 100,
        **changed,
    }


def room_with(version: str, settings: dict[str, str]) -> tuple[RoomEvents, State]:
    """The room; `settings`: rule=<join rule>, any named power level, power_levels=absent."""
    room = RoomEvents(version)
    events = [room.create, *(room.member(name, membership) for name, membership in MEMBERSHIPS.items())]
    if settings.get("rule", "absent") != "absent":
        events.append(room.state("m.room.join_rules", "", "alice", {"join_rule": settings["rule"]}))
    if settings.get("power_levels") != "absent":
        levels = {name: int(value) for name, value in settings.items() if name not in ("rule", "via")}
        events.append(room.state("m.room.power_levels", "", "alice", power_levels(version, **levels)))
    return room, state_of(events)


def settings_of(words: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    """`name=value` words, and the others."""
    pairs = [word.partition("=")[::2] for word in words if "=" in word]
    return dict(pairs), tuple(word for word in words if "=" not in word)
