"""Conditions of push rules (client-server API, "Conditions"), each compiled into a function of the occasion."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from annals.matrix.canonical_json import INTEGER_MAX, INTEGER_MIN
from annals.matrix.events import Event
from annals.matrix.globs import compile_glob, compile_literal

NOTIFICATION_LEVEL_DEFAULT = 50
"""Level to trigger a notification of some key (`room`) where the power levels do not say."""

_MEMBER_COUNT = re.compile(r"(==|<=|>=|<|>)?([0-9]{1,15})", re.ASCII)
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "==": int.__eq__,
    "<": int.__lt__,
    ">": int.__gt__,
    "<=": int.__le__,
    ">=": int.__ge__,
}


@dataclass(frozen=True, slots=True)
class Occasion:
    """An event and what conditions ask of the room and of the user at that event."""

    event: Event
    member_count: int
    """Joined members of the room."""
    sender_level: int
    """The sender's power level."""
    notification_levels: Mapping[str, Any] = field(default_factory=dict)
    """`notifications` of the room's power levels."""
    display_name: str | None = None
    """The rule owner's display name in the room."""


Condition = Callable[[Occasion], bool]


def condition_of(condition: object) -> Condition | None:
    """The condition as a function; None where it is unknown or malformed."""
    if not isinstance(condition, dict) or not isinstance(kind := condition.get("kind"), str):
        return None
    maker = _CONDITIONS.get(kind)
    return None if maker is None else maker(condition)


def path_of(key: str) -> tuple[str, ...]:
    """The names in a dot-separated property path: `\\.` is a dot and `\\\\` a backslash within a name."""
    names, name, characters = [], "", iter(key)
    for character in characters:
        if character == ".":
            names.append(name)
            name = ""
        elif character == "\\":
            following = next(characters, "")
            # "Other escape sequences are left as-is"
            name += following if following in (".", "\\") else "\\" + following
        else:
            name += character
    return *names, name


def _event_match(condition: Mapping[str, Any]) -> Condition | None:
    key, pattern = condition.get("key"), condition.get("pattern")
    if not isinstance(key, str) or not isinstance(pattern, str):
        return None
    path = path_of(key)
    # "As a special case, if `key` is `content.body`, then `pattern` must instead match any substring of the value of
    # the property which starts and ends at a word boundary."
    glob = compile_glob(pattern, words=path == ("content", "body"))

    def matches(occasion: Occasion) -> bool:
        value = _property(occasion.event, path)
        return isinstance(value, str) and glob.matches(value)

    return matches


def _event_property_is(condition: Mapping[str, Any]) -> Condition | None:
    key, value = condition.get("key"), condition.get("value")
    if not isinstance(key, str) or "value" not in condition or not _is_scalar(value):
        return None
    path = path_of(key)
    return lambda occasion: _same(_property(occasion.event, path), value)


def _event_property_contains(condition: Mapping[str, Any]) -> Condition | None:
    key, value = condition.get("key"), condition.get("value")
    if not isinstance(key, str) or "value" not in condition or not _is_scalar(value):
        return None
    path = path_of(key)

    def contains(occasion: Occasion) -> bool:
        items = _property(occasion.event, path)
        return isinstance(items, list) and any(_same(item, value) for item in items)

    return contains


def _contains_display_name(_condition: Mapping[str, Any]) -> Condition:
    def contains(occasion: Occasion) -> bool:
        body, name = occasion.event.content.get("body"), occasion.display_name
        return isinstance(body, str) and name is not None and name != "" and compile_literal(name).matches(body)

    return contains


def _room_member_count(condition: Mapping[str, Any]) -> Condition | None:
    wanted = condition.get("is")
    found = _MEMBER_COUNT.fullmatch(wanted) if isinstance(wanted, str) else None
    if found is None:
        return None
    compare, count = _COMPARE[found[1] or "=="], int(found[2])
    return lambda occasion: compare(occasion.member_count, count)


def _sender_notification_permission(condition: Mapping[str, Any]) -> Condition | None:
    key = condition.get("key")
    if not isinstance(key, str):
        return None

    def permitted(occasion: Occasion) -> bool:
        level = occasion.notification_levels.get(key)
        return occasion.sender_level >= (level if type(level) is int else NOTIFICATION_LEVEL_DEFAULT)

    return permitted


_CONDITIONS: dict[str, Callable[[Mapping[str, Any]], Condition | None]] = {
    "event_match": _event_match,
    "event_property_is": _event_property_is,
    "event_property_contains": _event_property_contains,
    "contains_display_name": _contains_display_name,
    "room_member_count": _room_member_count,
    "sender_notification_permission": _sender_notification_permission,
}

_ABSENT = object()


def _property(event: Event, path: tuple[str, ...]) -> object:
    first, *rest = path
    # Neither need stand in the PDU.
    if not rest and first in ("event_id", "room_id"):
        return event.event_id if first == "event_id" else event.room_id
    value: Any = event.pdu.get(first, _ABSENT)
    for name in rest:
        value = value.get(name, _ABSENT) if isinstance(value, dict) else _ABSENT
    return value


def _is_scalar(value: object) -> bool:
    # "only supports non-compound canonical JSON values: strings, integers ..., booleans, and null"
    return value is None or type(value) in (str, bool) or (type(value) is int and INTEGER_MIN <= value <= INTEGER_MAX)


def _same(value: object, wanted: object) -> bool:
    # "do not cast types"
    return type(value) is type(wanted) and value == wanted
