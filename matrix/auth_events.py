"""Which state events an event has to cite (server-server API, "Auth events selection")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annals.matrix.events import StateKey
from annals.matrix.room_versions import RoomRules

CREATE: StateKey = ("m.room.create", "")
POWER_LEVELS: StateKey = ("m.room.power_levels", "")
JOIN_RULES: StateKey = ("m.room.join_rules", "")


def auth_types_for(
    event_type: str, sender: str, state_key: str | None, content: Mapping[str, Any], rules: RoomRules
) -> list[StateKey]:
    """Keys of the room state that give `sender` permission to send such an event; no key twice."""
    # "The `auth_events` for the `m.room.create` event in a room is empty"
    if event_type == "m.room.create":
        return []
    # "Depending on the room version, the `m.room.create` event." (v12: never)
    keys = [CREATE] if rules.create_cited_in_auth_events else []
    # "The current `m.room.power_levels` event"; "The sender's current `m.room.member` event"
    keys += [POWER_LEVELS, ("m.room.member", sender)]
    if event_type == "m.room.member" and state_key is not None:
        keys += [key for key in _for_membership(state_key, content, rules) if key != ("m.room.member", sender)]
    return keys


def _for_membership(target: str, content: Mapping[str, Any], rules: RoomRules) -> list[StateKey]:
    membership = content.get("membership")
    # "The target's current `m.room.member` event"
    keys: list[StateKey] = [("m.room.member", target)]
    # "If `membership` is `join`, `invite` or `knock`, the current `m.room.join_rules` event" (knock: v7+)
    if membership in ("join", "invite") or (membership == "knock" and rules.knocking):
        keys.append(JOIN_RULES)
    # "If membership is `invite` and `content` contains a `third_party_invite` property, the current
    # `m.room.third_party_invite` event with `state_key` matching `content.third_party_invite.signed.token`"
    if membership == "invite":
        token = _string_at(content, "third_party_invite", "signed", "token")
        if token is not None:
            keys.append(("m.room.third_party_invite", token))
    # "If `membership` is `join`, `content.join_authorised_via_users_server` is present, and the room version supports
    # restricted rooms, then the `m.room.member` event with `state_key` matching" it (v8+)
    if membership == "join" and rules.restricted_join:
        authoriser = _string_at(content, "join_authorised_via_users_server")
        if authoriser is not None and authoriser != target:
            keys.append(("m.room.member", authoriser))
    return keys


def _string_at(content: Mapping[str, Any], *path: str) -> str | None:
    value: Any = content
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None
