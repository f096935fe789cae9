"""Filters of /sync and /messages (client-server API, "Filtering"), read from JSON and turned into conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LIMIT_DEFAULT = 10
LIMIT_MAX = 100
_LISTS_MAX = 1_000


class BadFilter(ValueError):
    """Not a filter: a field has the wrong type."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """An EventFilter or RoomEventFilter; None: no condition."""

    limit: int = LIMIT_DEFAULT
    types: tuple[str, ...] | None = None
    not_types: tuple[str, ...] = ()
    senders: tuple[str, ...] | None = None
    not_senders: tuple[str, ...] = ()
    rooms: frozenset[str] | None = None
    not_rooms: frozenset[str] = frozenset()
    contains_url: bool | None = None
    lazy_load_members: bool = False

    def takes_room(self, room_id: str) -> bool:
        """Whether events of a room pass."""
        return room_id not in self.not_rooms and (self.rooms is None or room_id in self.rooms)

    def takes_type(self, event_type: str) -> bool:
        """Whether events of a type pass, `*` standing for any characters."""
        if any(_matches(pattern, event_type) for pattern in self.not_types):
            return False
        return self.types is None or any(_matches(pattern, event_type) for pattern in self.types)

    def takes_sender(self, sender: str) -> bool:
        """Whether events of a sender pass."""
        return sender not in self.not_senders and (self.senders is None or sender in self.senders)

    @property
    def takes_all_events(self) -> bool:
        """Whether every event of a room that passes does."""
        return (
            self.types is None
            and not self.not_types
            and self.senders is None
            and not self.not_senders
            and self.contains_url is None
        )

    def sql(self) -> tuple[str, list[Any]]:
        """The same as a condition on `events e` (beginning with AND, or empty), and its parameters."""
        conditions: list[str] = []
        params: list[Any] = []
        for patterns, word in ((self.types, ""), (self.not_types or None, "NOT ")):
            if patterns is not None:
                conditions.append(f"{word}(e.type LIKE ANY (%s::text[]))")
                params.append([_like(pattern) for pattern in patterns])
        for senders, word in ((self.senders, ""), (self.not_senders or None, "NOT ")):
            if senders is not None:
                conditions.append(f"{word}(e.sender = ANY (%s::text[]))")
                params.append(list(senders))
        if self.contains_url is not None:
            # The key may stand deeper or in a string: the client's filter is a hint for display, not a guard.
            conditions.append(("" if self.contains_url else "NOT ") + "(e.client_json LIKE %s)")
            params.append('%"url":"%')
        return "".join(f" AND {condition}" for condition in conditions), params


@dataclass(frozen=True, slots=True)
class SyncFilter:
    """A whole filter, part by part."""

    timeline: EventFilter = EventFilter()
    state: EventFilter = EventFilter()
    ephemeral: EventFilter = EventFilter()
    room_account_data: EventFilter = EventFilter()
    account_data: EventFilter = EventFilter()
    presence: EventFilter = EventFilter()
    rooms: frozenset[str] | None = None
    not_rooms: frozenset[str] = frozenset()
    include_leave: bool = False
    event_fields: tuple[str, ...] | None = None

    def takes_room(self, room_id: str) -> bool:
        """Whether a room is shown at all."""
        return room_id not in self.not_rooms and (self.rooms is None or room_id in self.rooms)


def sync_filter(definition: Mapping[str, Any]) -> SyncFilter:
    """The filter that a definition describes; raises BadFilter."""
    room = _map(definition, "room")
    return SyncFilter(
        timeline=event_filter(_map(room, "timeline")),
        state=event_filter(_map(room, "state")),
        ephemeral=event_filter(_map(room, "ephemeral")),
        room_account_data=event_filter(_map(room, "account_data")),
        account_data=event_filter(_map(definition, "account_data")),
        presence=event_filter(_map(definition, "presence")),
        rooms=_set(room, "rooms"),
        not_rooms=_set(room, "not_rooms") or frozenset(),
        include_leave=_bool(room, "include_leave") or False,
        event_fields=_strings(definition, "event_fields"),
    )


def event_filter(definition: Mapping[str, Any]) -> EventFilter:
    """The part of a filter that a definition describes; raises BadFilter."""
    limit = definition.get("limit", LIMIT_DEFAULT)
    if type(limit) is not int:
        raise BadFilter("limit must be an integer")
    return EventFilter(
        limit=max(0, min(limit, LIMIT_MAX)),
        types=_strings(definition, "types"),
        not_types=_strings(definition, "not_types") or (),
        senders=_strings(definition, "senders"),
        not_senders=_strings(definition, "not_senders") or (),
        rooms=_set(definition, "rooms"),
        not_rooms=_set(definition, "not_rooms") or frozenset(),
        contains_url=_bool(definition, "contains_url"),
        lazy_load_members=_bool(definition, "lazy_load_members") or False,
    )


def _map(definition: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = definition.get(name, {})
    if not isinstance(value, Mapping):
        raise BadFilter(f"{name} must be an object")
    return value


def _bool(definition: Mapping[str, Any], name: str) -> bool | None:
    value = definition.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadFilter(f"{name} must be true or false")
    return value


def _strings(definition: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    value = definition.get(name)
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > _LISTS_MAX:
        raise BadFilter(f"{name} must be a list of strings")
    if not all(isinstance(item, str) for item in value):
        raise BadFilter(f"{name} must be a list of strings")
    return tuple(value)


def _set(definition: Mapping[str, Any], name: str) -> frozenset[str] | None:
    strings = _strings(definition, name)
    return None if strings is None else frozenset(strings)


def _matches(pattern: str, text: str) -> bool:
    """Whether a pattern with `*` fits: greedy from the left, in linear time for each part."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    if not text.startswith(first):
        return False
    at = len(first)
    *middle, last = rest
    for part in middle:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return text.endswith(last) and len(text) - len(last) >= at


def _like(pattern: str) -> str:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")
