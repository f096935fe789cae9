"""Room versions as values made of named rules.

Code asks `rules.restricted_join`, never whether a version is at least some number. A rule is named after what it does;
the comment beside it says in which room versions of the specification it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum


class EventIdFormat(Enum):
    """Where an event's id comes from."""

    CHOSEN_BY_SENDER = "chosen by sender"  # v1-2: an `event_id` in the PDU
    HASH = "hash"  # v3: reference hash, base64
    URL_SAFE_HASH = "url-safe hash"  # v4+: reference hash, URL-safe base64


class StateResolution(Enum):
    """The algorithm that makes one state of several."""

    V1 = "1"  # v1
    V2 = "2"  # v2-11
    V2_1 = "2.1"  # v12


_KEPT_KEYS = frozenset(
    {
        *("event_id", "type", "room_id", "sender", "state_key", "content", "hashes", "signatures"),
        *("depth", "prev_events", "auth_events", "origin_server_ts"),
    }
)
_KEPT_POWER_LEVEL_KEYS = frozenset(
    {"ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default"}
)


@dataclass(frozen=True, slots=True)
class RedactionRules:
    """Which keys survive redaction (the "Redactions" section of each room version)."""

    legacy_keys: bool = True  # v1-10: top-level origin, membership, prev_state
    aliases: bool = True  # v1-5: m.room.aliases, aliases
    join_rule_allow: bool = False  # v8+: m.room.join_rules, allow
    join_authorised_via: bool = False  # v9+: m.room.member, join_authorised_via_users_server
    third_party_invite_signed: bool = False  # v11+: m.room.member, third_party_invite.signed
    whole_create: bool = False  # v11+: m.room.create, everything
    power_levels_invite: bool = False  # v11+: m.room.power_levels, invite
    redacts_in_content: bool = False  # v11+: m.room.redaction, redacts

    event_keys: frozenset[str] = field(init=False, repr=False, compare=False)
    """Top-level keys that survive."""
    content_keys: Mapping[str, frozenset[str]] = field(init=False, repr=False, compare=False)
    """By event type: keys of `content` that survive. Types without an entry keep none; a create under
    `whole_create` is not listed."""

    def __post_init__(self) -> None:
        legacy = {"origin", "membership", "prev_state"} if self.legacy_keys else set()
        object.__setattr__(self, "event_keys", _KEPT_KEYS | legacy)
        object.__setattr__(self, "content_keys", self._content_keys())

    def _content_keys(self) -> dict[str, frozenset[str]]:
        kept = {
            "m.room.member": frozenset({"membership"}),
            "m.room.join_rules": frozenset({"join_rule"}),
            "m.room.power_levels": _KEPT_POWER_LEVEL_KEYS,
            "m.room.history_visibility": frozenset({"history_visibility"}),
        }
        if not self.whole_create:
            kept["m.room.create"] = frozenset({"creator"})
        if self.aliases:
            kept["m.room.aliases"] = frozenset({"aliases"})
        if self.join_rule_allow:
            kept["m.room.join_rules"] |= {"allow"}
        if self.join_authorised_via:
            kept["m.room.member"] |= {"join_authorised_via_users_server"}
        if self.power_levels_invite:
            kept["m.room.power_levels"] |= {"invite"}
        if self.redacts_in_content:
            kept["m.room.redaction"] = frozenset({"redacts"})
        return kept


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RoomRules:
    """The rules of one room version. Compared by identity: there is one value a version (`ROOM_VERSIONS`).

    The defaults are what room version 1 does.
    """

    version: str

    # Format, hashes, signatures
    event_id_format: EventIdFormat = EventIdFormat.CHOSEN_BY_SENDER
    strict_canonical_json: bool = False
    """v6+: integers within 53 bits, no floats; depth below 2^53 (before: 2^63)."""
    signing_key_validity: bool = False
    """v5+: a key must have been valid at the event's origin_server_ts."""
    redacts_in_content: bool = False
    """v11+: m.room.redaction names its target in `content`, not at the top level."""
    room_id_is_create_hash: bool = False
    """v12: the room id is the create event's id with the sigil `!`; the create itself carries none."""
    redaction: RedactionRules = RedactionRules()

    # State
    state_resolution: StateResolution = StateResolution.V1

    # Authorisation
    create_cited_in_auth_events: bool = True
    """v1-11: the create event is selected for auth_events; without it an event is rejected. v12: it must not be."""
    create_room_id_domain_is_senders: bool = True
    """v1-11, rule 1.2: the domain of a create's room id is its sender's."""
    creator_in_content: bool = True
    """v1-10: `content.creator` of the create is required and names the creator. v11+: the sender is the creator."""
    creators_have_infinite_power: bool = False
    """v12: sender and `additional_creators` of the create are above every level, and may not stand in `users`."""
    aliases_rule: bool = True
    """v1-5: m.room.aliases needs only a state key equal to the sender's domain."""
    redaction_auth_rule: bool = True
    """v1-2: the auth rules judge m.room.redaction (level, or the redacted event id's domain)."""
    notifications_levels_protected: bool = False
    """v6+: changes of `notifications` in power levels are judged as those of `events`."""
    integer_power_levels: bool = False
    """v10+: power levels are integers; before, strings (and, where JSON is not strict, floats) may stand for one."""
    knocking: bool = False
    """v7+: membership `knock`, join rule `knock`."""
    restricted_join: bool = False
    """v8+: join rule `restricted`, `join_authorised_via_users_server` and its signature."""
    knock_restricted_join: bool = False
    """v10+: join rule `knock_restricted`."""

    def __repr__(self) -> str:
        return f"RoomRules({self.version!r})"

    def __reduce__(self) -> tuple[object, tuple[str]]:
        # Identity is equality: a copy made by pickle or deepcopy must be the value itself.
        return rules_of, (self.version,)


V1 = RoomRules(version="1")

V2 = replace(V1, version="2", state_resolution=StateResolution.V2)

V3 = replace(V2, version="3", event_id_format=EventIdFormat.HASH, redaction_auth_rule=False)

V4 = replace(V3, version="4", event_id_format=EventIdFormat.URL_SAFE_HASH)

V5 = replace(V4, version="5", signing_key_validity=True)

V6 = replace(
    V5,
    version="6",
    strict_canonical_json=True,
    redaction=replace(V5.redaction, aliases=False),
    aliases_rule=False,
    notifications_levels_protected=True,
)

V7 = replace(V6, version="7", knocking=True)

V8 = replace(V7, version="8", redaction=replace(V7.redaction, join_rule_allow=True), restricted_join=True)

V9 = replace(V8, version="9", redaction=replace(V8.redaction, join_authorised_via=True))

V10 = replace(V9, version="10", integer_power_levels=True, knock_restricted_join=True)

V11 = replace(
    V10,
    version="11",
    redacts_in_content=True,
    redaction=replace(
        V10.redaction,
        legacy_keys=False,
        third_party_invite_signed=True,
        whole_create=True,
        power_levels_invite=True,
        redacts_in_content=True,
    ),
    creator_in_content=False,
)

V12 = replace(
    V11,
    version="12",
    room_id_is_create_hash=True,
    state_resolution=StateResolution.V2_1,
    create_cited_in_auth_events=False,
    create_room_id_domain_is_senders=False,
    creators_have_infinite_power=True,
)

ROOM_VERSIONS: Mapping[str, RoomRules] = {
    rules.version: rules for rules in (V1, V2, V3, V4, V5, V6, V7, V8, V9, V10, V11, V12)
}
"""All of them are stable by the specification."""

DEFAULT = "12"
"""Version of new rooms where nobody says otherwise."""


def rules_of(version: str) -> RoomRules:
    """The rules of a room version; KeyError where we do not know it."""
    return ROOM_VERSIONS[version]
