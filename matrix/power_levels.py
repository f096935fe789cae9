"""Who may do what in a room: the levels that m.room.power_levels and m.room.create give.

One reader for the auth rules, state resolution, redactions and queries, so that a malformed value means the same
everywhere: a value that stands for no integer counts as absent. (From version 10 on, rule 9.1-9.3 keeps such values out
of every accepted event.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from annals.matrix.events import Event
from annals.matrix.quick import quick
from annals.matrix.room_versions import RoomRules

# Version 12: "the power level of room creators is infinitely high". Canonical JSON ends at 2^53 - 1, so this is above
# every level that an event can hold; an int, so that levels stay comparable and negatable. (Synapse: the same value.)
INFINITE: Final = 2**53

# Client-server API, m.room.power_levels: what holds where the event, or the key in it, is absent.
DEFAULT_LEVELS: Final[Mapping[str, int]] = {
    "users_default": 0,
    "events_default": 0,
    "state_default": 50,
    "ban": 50,
    "redact": 50,
    "kick": 50,
    "invite": 0,
}


def as_level(value: object, rules: RoomRules) -> int | None:
    """The level that a JSON value stands for in this room version; None where it stands for none."""
    if type(value) is int:
        return value
    # v10+: "Power levels are integers only"; true and false are none.
    if rules.integer_power_levels or not isinstance(value, (str, float, bool)):
        return None
    # v1-9: "each of the integer-valued properties ... can be encoded as strings instead of integers", with leading
    # zeroes, a sign, and whitespace around; v1-5: "When the value is a float ... truncated at the decimal point".
    # NOTSPEC: what int() takes besides stands for a level too, as in Synapse: true, "1_000", digits of other scripts.
    try:
        return int(value)
    except (ValueError, OverflowError):
        return None


def as_map(value: object) -> Mapping[str, Any]:
    """The value where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def first_creator(create: Event) -> object:
    """Who made the room: `content.creator` up to version 10 (any JSON value), the sender from version 11 on."""
    return create.content.get("creator") if create.rules.creator_in_content else create.sender


def privileged_creators(create: Event) -> frozenset[str]:
    """Who has infinite power (version 12: sender and additional_creators of the create event); else nobody."""
    if not create.rules.creators_have_infinite_power:
        return frozenset()
    additional = create.content.get("additional_creators")
    if not isinstance(additional, list):
        return frozenset((create.sender,))
    return frozenset({create.sender, *(name for name in additional if isinstance(name, str))})


@quick
@dataclass(frozen=True, slots=True)
class PowerLevels:
    """The levels in force at one point of a room. Make it with `PowerLevels.of`."""

    event: Event | None  # m.room.power_levels
    creator: object  # has level 100 while there is no m.room.power_levels event
    privileged: frozenset[str]

    @classmethod
    def of(cls, create: Event | None, power_levels: Event | None) -> PowerLevels:
        """From the create and power levels events in force, either of which may be absent."""
        return cls(
            event=power_levels,
            creator=None if create is None else first_creator(create),
            privileged=frozenset() if create is None else privileged_creators(create),
        )

    def user(self, user_id: str) -> int:
        """The level of a user: INFINITE for creators of version 12, else users, users_default, 0."""
        if user_id in self.privileged:
            return INFINITE
        if self.event is None:
            return 100 if self.creator == user_id else 0
        level = self._among("users", user_id)
        return self.named("users_default") if level is None else level

    def named(self, name: str) -> int:
        """The level needed for an action: a key of DEFAULT_LEVELS."""
        level = None if self.event is None else as_level(self.event.content.get(name), self.event.rules)
        return DEFAULT_LEVELS[name] if level is None else level

    def required(self, event_type: str, *, is_state: bool) -> int:
        """The *required power level* to send an event of this type (server-server API, definitions)."""
        level = self._among("events", event_type)
        return self.named("state_default" if is_state else "events_default") if level is None else level

    def _among(self, entries: str, name: str) -> int | None:
        if self.event is None:
            return None
        return as_level(as_map(self.event.content.get(entries)).get(name), self.event.rules)
