"""What of a room goes into the one that replaces it (client-server API, "Room upgrades"), pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from annals.commands.errors import Refused
from annals.commands.rooms.creation import TOMBSTONE_LEVEL_BELOW_CREATORS, RoomRequest, power_levels_content
from annals.matrix.events import Event
from annals.matrix.identifiers import is_user_id
from annals.matrix.power_levels import as_level, as_map
from annals.matrix.room_versions import RoomRules

CREATE, POWER_LEVELS, JOIN_RULES = "m.room.create", "m.room.power_levels", "m.room.join_rules"
#: "the recommended state events to transfer", but for power levels, which come last.
_TRANSFERRED = (
    *("m.room.server_acl", "m.room.encryption", "m.room.name", "m.room.avatar", "m.room.topic", "m.room.guest_access"),
    *("m.room.history_visibility", JOIN_RULES),
)
#: Of the create event's content.
_KEPT_OF_CREATE = ("type", "m.federate")
_SPACE, _CHILD = "m.space", "m.space.child"
_LEVEL_MAPS = ("users", "events", "notifications")
_CLOSED_LEVEL = 50


@dataclass(frozen=True, slots=True)
class OldRoom:
    """A room that is to be replaced: its rules, its current state but for members, and one of its last events."""

    room_id: str
    rules: RoomRules
    state: Mapping[tuple[str, str], Event] = field(hash=False)
    last_event_id: str | None

    def content(self, event_type: str) -> Mapping[str, Any]:
        """Of the state event with an empty state key; empty where there is none."""
        event = self.state.get((event_type, ""))
        return event.content if event is not None else {}


def create_content_of(old: OldRoom, creator: str, additional: Sequence[str], rules: RoomRules) -> dict[str, Any]:
    """Content of the new room's m.room.create. Refused: M_INVALID_PARAM."""
    predecessor = {"room_id": old.room_id} | ({"event_id": old.last_event_id} if old.last_event_id else {})
    kept = {name: old.content(CREATE)[name] for name in _KEPT_OF_CREATE if name in old.content(CREATE)}
    content: dict[str, Any] = {**kept, "predecessor": predecessor, "room_version": rules.version}
    if rules.creator_in_content:
        content["creator"] = creator
    # "When upgrading to a room version which doesn't support additional creators, this field is ignored"
    if rules.creators_have_infinite_power:
        if not all(map(is_user_id, additional)):
            raise Refused(400, "M_INVALID_PARAM", "additional_creators must be a list of user ids")
        if others := [user_id for user_id in dict.fromkeys(additional) if user_id != creator]:
            content["additional_creators"] = others
    return content


def state_of(old: OldRoom, creator: str, creators: Collection[str], rules: RoomRules) -> list[list[Any]]:
    """[type, state key, content] of the events behind the creator's join, in order: power levels last, as until then
    the creator may send all of them. `creators`: all of the new room."""
    kept = {kind: dict(old.content(kind)) for kind in _TRANSFERRED if (kind, "") in old.state}
    if JOIN_RULES in kept:
        kept[JOIN_RULES] = _join_rules(kept[JOIN_RULES], rules)
    state: list[list[Any]] = [[kind, "", content] for kind, content in kept.items()]
    if old.content(CREATE).get("type") == _SPACE:
        children = ((key, event) for (kind, key), event in old.state.items() if kind == _CHILD)
        state += [[_CHILD, key, dict(event.content)] for key, event in sorted(children) if "via" in event.content]
    return [*state, [POWER_LEVELS, "", levels_of(old, creator, creators, rules)]]


def _join_rules(content: Mapping[str, Any], rules: RoomRules) -> dict[str, Any]:
    known = {
        "knock": rules.knocking,
        "restricted": rules.restricted_join,
        "knock_restricted": rules.knock_restricted_join,
    }
    named = content.get("join_rule")
    if not isinstance(named, str) or known.get(named, True):
        return dict(content)
    # Who would have to be let in by a rule that the new version does not know must be invited.
    return {"join_rule": "invite"}


def levels_of(old: OldRoom, creator: str, creators: Collection[str], rules: RoomRules) -> dict[str, Any]:
    """Content of the new room's power levels: those of the old one, as the new version can have them."""
    if (POWER_LEVELS, "") not in old.state:
        return power_levels_content(RoomRequest(creator), rules)
    content = _plain_levels(old.content(POWER_LEVELS), old.rules)
    users = {user_id: level for user_id, level in content.get("users", {}).items() if is_user_id(user_id)}
    if rules.creators_have_infinite_power:
        # "creators … may not stand in `users`"
        content["users"] = {user_id: level for user_id, level in users.items() if user_id not in creators}
        if not old.rules.creators_have_infinite_power:
            events = content.setdefault("events", {})
            level = max(TOMBSTONE_LEVEL_BELOW_CREATORS, events.get("m.room.tombstone", 0))
            events["m.room.tombstone"] = level
    else:
        if old.rules.creators_have_infinite_power:
            users[creator] = max(100, *users.values(), 100)
        content["users"] = users
    return content


def _plain_levels(content: Mapping[str, Any], rules: RoomRules) -> dict[str, Any]:
    """Levels as integers, as newer versions want them; what is none is left out."""
    levels: dict[str, Any] = {}
    for name, value in content.items():
        if name in _LEVEL_MAPS:
            read = {key: as_level(level, rules) for key, level in as_map(value).items()}
            levels[name] = {key: level for key, level in read.items() if level is not None}
        elif (level := as_level(value, rules)) is not None:
            levels[name] = level
    return levels


def closing_levels(old: OldRoom) -> dict[str, Any] | None:
    """Content of power levels of the old room in which only those above most may go on; None where it is so now.

    "setting `events_default` and `invite` to the greater of `50` and `users_default + 1`"
    """
    content = dict(old.content(POWER_LEVELS))
    users_default = as_level(content.get("users_default", 0), old.rules) or 0
    level = max(_CLOSED_LEVEL, users_default + 1)
    closed = {
        name: level for name in ("events_default", "invite") if (as_level(content.get(name, 0), old.rules) or 0) < level
    }
    return content | closed if closed else None
