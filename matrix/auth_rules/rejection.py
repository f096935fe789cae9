"""What a failed rule says, and how the rules are numbered in each room version.

The code names a rule by its section ("member.join.sender"), or by a section and the number inside it ("member.ban.3").
The versions differ only in which sections their text has, so the number printed there ("5.2.2" in versions 1 to 5,
"4.3.2" in versions 8 to 11, "5.3.2" in version 12) follows from the version's named rules. Numbers are those of the
rendered text: an ordered list counts on, whatever its source says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from annals.matrix.room_versions import RoomRules


class Reason(StrEnum):
    """Why an event was refused. Stored as strings: add freely, never rename."""

    CREATE_HAS_PREV_EVENTS = "create_has_prev_events"
    CREATE_ROOM_ID = "create_room_id"
    UNKNOWN_ROOM_VERSION = "unknown_room_version"
    NO_CREATOR = "no_creator"
    BAD_ADDITIONAL_CREATORS = "bad_additional_creators"
    NO_CREATE_EVENT = "no_create_event"
    DUPLICATE_AUTH_EVENT = "duplicate_auth_event"
    UNNEEDED_AUTH_EVENT = "unneeded_auth_event"
    REJECTED_AUTH_EVENT = "rejected_auth_event"
    AUTH_EVENT_OF_OTHER_ROOM = "auth_event_of_other_room"
    NOT_FEDERATED = "not_federated"
    NOT_SIGNED = "not_signed"
    NO_MEMBERSHIP = "no_membership"
    UNKNOWN_MEMBERSHIP = "unknown_membership"
    NOT_OWN_MEMBERSHIP = "not_own_membership"
    BANNED = "banned"
    NOT_INVITED = "not_invited"
    NOT_AUTHORISED_TO_JOIN = "not_authorised_to_join"
    UNKNOWN_JOIN_RULE = "unknown_join_rule"
    BAD_THIRD_PARTY_INVITE = "bad_third_party_invite"
    NO_THIRD_PARTY_INVITE = "no_third_party_invite"
    OTHER_INVITER = "other_inviter"
    BAD_THIRD_PARTY_SIGNATURE = "bad_third_party_signature"
    SENDER_NOT_JOINED = "sender_not_joined"
    TARGET_JOINED_OR_BANNED = "target_joined_or_banned"
    NOTHING_TO_LEAVE = "nothing_to_leave"
    TOO_LITTLE_POWER = "too_little_power"
    KNOCKING_NOT_ALLOWED = "knocking_not_allowed"
    ALREADY_A_MEMBER = "already_a_member"
    STATE_KEY_OF_OTHER_USER = "state_key_of_other_user"
    ALIASES_OF_OTHER_SERVER = "aliases_of_other_server"
    NOT_ALLOWED_TO_REDACT = "not_allowed_to_redact"
    BAD_POWER_LEVELS = "bad_power_levels"
    CREATOR_IN_USERS = "creator_in_users"


# Sections in the order of the text; beside a name that not every version has, whether one does.
_Names = tuple["str | tuple[str, Callable[[RoomRules], bool]]", ...]

_TOP: Final[_Names] = (
    "create",
    ("room", lambda rules: rules.room_id_is_create_hash),
    "auth_events",
    "federate",
    ("aliases", lambda rules: rules.aliases_rule),
    *("member", "joined", "third_party_invite", "required_level", "state_key", "power_levels"),
    ("redaction", lambda rules: rules.redaction_auth_rule),
)
_CREATE: Final[_Names] = (
    *("prev_events", "room_id", "room_version"),
    ("creator", lambda rules: rules.creator_in_content),
    ("additional_creators", lambda rules: rules.creators_have_infinite_power),
)
_AUTH_EVENTS: Final[_Names] = (
    *("duplicate", "unneeded", "rejected"),
    ("no_create", lambda rules: rules.create_cited_in_auth_events),
    "room_id",
)
_MEMBER: Final[_Names] = (
    "shape",
    ("authorised", lambda rules: rules.restricted_join),
    *("join", "invite", "leave", "ban"),
    ("knock", lambda rules: rules.knocking),
    "unknown",
)
_MEMBER_JOIN: Final[_Names] = (
    *("creator", "sender", "banned", "invited"),
    ("restricted", lambda rules: rules.restricted_join),
    *("public", "otherwise"),
)
_POWER_LEVELS: Final[_Names] = (
    ("integers", lambda rules: rules.integer_power_levels),
    ("maps", lambda rules: rules.integer_power_levels),
    "users",
    ("creators", lambda rules: rules.creators_have_infinite_power),
    *("first", "named", "entries_old", "entries_new", "users_old", "users_new"),
)


@dataclass(frozen=True, slots=True)
class Rejection:
    """`rule`: number in the text of the event's room version; `reason`: why, stable over versions."""

    rule: str
    reason: Reason


def reject(rules: RoomRules, rule: str, reason: Reason) -> Rejection:
    """The rejection for a rule named as "section.number" or "section.subsection.number" (see `_sections`)."""
    return Rejection(_number(rules, rule), reason)


@lru_cache(maxsize=1024)
def _number(rules: RoomRules, rule: str) -> str:
    sections = _sections(rules)
    parts = rule.split(".")
    for depth in range(len(parts), 0, -1):
        prefix = ".".join(parts[:depth])
        if prefix in sections:
            return ".".join([sections[prefix], *parts[depth:]])
    raise KeyError(rule)


@lru_cache(maxsize=16)
def _sections(rules: RoomRules) -> dict[str, str]:
    """Name -> number of every section that the text of this version has, in its order."""
    numbers = _numbered("", "", _TOP, rules)
    for section, names in (
        ("create", _CREATE),
        ("auth_events", _AUTH_EVENTS),
        ("member", _MEMBER),
        ("member.join", _MEMBER_JOIN),
        ("power_levels", _POWER_LEVELS),
    ):
        numbers |= _numbered(f"{section}.", f"{numbers[section]}.", names, rules)
    return numbers


def _numbered(section: str, number: str, names: _Names, rules: RoomRules) -> dict[str, str]:
    present = [name if isinstance(name, str) else name[0] for name in names if isinstance(name, str) or name[1](rules)]
    return {section + name: f"{number}{index}" for index, name in enumerate(present, start=1)}
