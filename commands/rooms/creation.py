"""The events of a new room (client-server API, POST /createRoom), pure, in the order of the specification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from annals.commands.errors import Refused
from annals.matrix.identifiers import is_user_id
from annals.matrix.room_versions import RoomRules

#: join rule, history visibility, guest access
_PRESETS: Mapping[str, tuple[str, str, str]] = {
    "private_chat": ("invite", "shared", "can_join"),
    "trusted_private_chat": ("invite", "shared", "can_join"),
    "public_chat": ("public", "shared", "forbidden"),
}
_EVENT_LEVELS = {
    "m.room.name": 50,
    "m.room.avatar": 50,
    "m.room.canonical_alias": 50,
    "m.room.power_levels": 100,
    "m.room.history_visibility": 100,
    "m.room.server_acl": 100,
    "m.room.encryption": 100,
    "m.room.tombstone": 100,
}
#: Where creators stand above all levels, ending a room is theirs (MSC4289).
TOMBSTONE_LEVEL_BELOW_CREATORS = 150


@dataclass(frozen=True, slots=True)
class StateWish:
    """One state event of the new room."""

    type: str
    content: dict[str, Any] = field(hash=False)
    state_key: str = ""


@dataclass(frozen=True, slots=True)
class RoomRequest:
    """A request to make a room, its fields checked for type only."""

    creator: str
    preset: str | None = None
    visibility: str = "private"
    name: str | None = None
    topic: str | None = None
    alias: str | None = None
    invite: Sequence[str] = ()
    is_direct: bool = False
    creation_content: Mapping[str, Any] = field(default_factory=dict, hash=False)
    initial_state: Sequence[StateWish] = ()
    power_level_content_override: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def effective_preset(self) -> str:
        """ "If unspecified, the server should use the `visibility` to determine which preset to use"."""
        return self.preset or ("public_chat" if self.visibility == "public" else "private_chat")


def check_request(request: RoomRequest) -> None:
    """Refuse what no room can be made of."""
    if request.effective_preset not in _PRESETS:
        raise Refused(400, "M_INVALID_PARAM", f"Unknown preset {request.effective_preset}")
    if request.visibility not in ("public", "private"):
        raise Refused(400, "M_INVALID_PARAM", "visibility must be public or private")
    for user_id in request.invite:
        if not is_user_id(user_id):
            raise Refused(400, "M_INVALID_PARAM", f"Not a user id: {user_id}")


def create_content(request: RoomRequest, rules: RoomRules) -> dict[str, Any]:
    """Content of the m.room.create event."""
    content = {**request.creation_content, "room_version": rules.version}
    content.pop("creator", None)
    if rules.creator_in_content:
        content["creator"] = request.creator
    if rules.creators_have_infinite_power:
        content.pop("additional_creators", None)
        if additional := _additional_creators(request):
            content["additional_creators"] = additional
    return content


def _additional_creators(request: RoomRequest) -> list[str]:
    named = request.creation_content.get("additional_creators", [])
    if not isinstance(named, list) or not all(isinstance(name, str) and is_user_id(name) for name in named):
        raise Refused(400, "M_INVALID_PARAM", "additional_creators must be a list of user ids")
    # "trusted_private_chat: All invitees are given the same power level as the room creator": here, creators too.
    invited = request.invite if request.effective_preset == "trusted_private_chat" else ()
    return [user_id for user_id in dict.fromkeys((*named, *invited)) if user_id != request.creator]


def power_levels_content(request: RoomRequest, rules: RoomRules) -> dict[str, Any]:
    """Content of the first m.room.power_levels event."""
    users = {} if rules.creators_have_infinite_power else {request.creator: 100}
    events = dict(_EVENT_LEVELS)
    if rules.creators_have_infinite_power:
        events["m.room.tombstone"] = TOMBSTONE_LEVEL_BELOW_CREATORS
    elif request.effective_preset == "trusted_private_chat":
        users.update(dict.fromkeys(request.invite, 100))
    content: dict[str, Any] = {
        "users": users,
        "users_default": 0,
        "events": events,
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": 0 if request.effective_preset != "public_chat" else 50,
        "historical": 100,
    }
    return content | dict(request.power_level_content_override)


def later_state(request: RoomRequest) -> list[StateWish]:
    """The state after power levels, in the order of the specification; `initial_state` wins over the preset."""
    join_rule, history_visibility, guest_access = _PRESETS[request.effective_preset]
    given = {(wish.type, wish.state_key) for wish in request.initial_state}
    preset = (
        StateWish("m.room.join_rules", {"join_rule": join_rule}),
        StateWish("m.room.history_visibility", {"history_visibility": history_visibility}),
        StateWish("m.room.guest_access", {"guest_access": guest_access}),
    )
    wishes = [StateWish("m.room.canonical_alias", {"alias": request.alias})] if request.alias else []
    wishes += [wish for wish in preset if (wish.type, wish.state_key) not in given]
    wishes += request.initial_state
    if request.name is not None:
        wishes.append(StateWish("m.room.name", {"name": request.name}))
    if request.topic is not None:
        rich = {"m.text": [{"body": request.topic}]}
        wishes.append(StateWish("m.room.topic", {"topic": request.topic, "m.topic": rich}))
    return wishes
