"""What another server proposes that we sign, checked field by field, and the event that we make of it.

Nothing of a template is signed as it came: the event is built anew, out of the few fields that only a resident server
can know (prev_events, auth_events, depth, and who vouches for a restricted join).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from annals.ingest.handshakes.errors import TemplateRefused
from annals.matrix.building import build_event
from annals.matrix.errors import InvalidEvent, InvalidIdentifier
from annals.matrix.events import Event
from annals.matrix.identifiers import domain_of, is_event_id, is_hashed_room_id, is_user_id
from annals.matrix.room_versions import ROOM_VERSIONS, EventIdFormat, RoomRules
from annals.matrix.signing import SigningKey

MEMBER = "m.room.member"
JOIN, KNOCK, LEAVE = "join", "knock", "leave"
AUTHORISER = "join_authorised_via_users_server"

# "If not provided, the room version is assumed to be either "1" or "2"": the two differ in nothing that we sign.
_VERSION_WHERE_NONE_IS_NAMED = "1"
# What templates of servers in use have. What is not looked at below is not signed either.
_KEYS = frozenset(
    ("auth_events", "content", "depth", "hashes", "membership", "origin", "origin_server_ts", "prev_events")
) | frozenset(("prev_state", "room_id", "sender", "signatures", "state_key", "type", "unsigned"))
# Some servers write the (for them unknown) profile of the user. It is ours to fill.
_CONTENT_KEYS = frozenset(("membership", "displayname", "avatar_url", AUTHORISER))


@dataclass(frozen=True, slots=True)
class Asked:
    """What we asked a server for: that this user's membership in this room becomes `membership`."""

    room_id: str
    user_id: str
    membership: str
    server: str


@dataclass(frozen=True, slots=True)
class Template:
    """A template that passed."""

    rules: RoomRules
    prev_events: tuple[str, ...]
    auth_events: tuple[str, ...]
    depth: int
    authoriser: str | None
    """Who of the resident server vouches for a restricted join."""
    reference_hashes: Mapping[str, str]
    """Versions 1 and 2: of the events that are named, by id, as far as they were told."""


def read_template(answer: Any, asked: Asked) -> Template:
    """The template in an answer to make_join, make_knock or make_leave; raises `TemplateRefused`."""
    if type(answer) is not dict or type(answer.get("event")) is not dict:
        raise TemplateRefused("the answer holds no event")
    rules = _rules(answer.get("room_version", _VERSION_WHERE_NONE_IS_NAMED), asked)
    event = answer["event"]
    _check_identity(event, asked, rules)
    authoriser = _check_content(event.get("content"), asked, rules)
    hashes: dict[str, str] = {}
    prev_events = _references(event, "prev_events", rules, hashes)
    auth_events = _references(event, "auth_events", rules, hashes)
    if not prev_events:
        raise TemplateRefused("prev_events is empty")
    depth = event.get("depth")
    if type(depth) is not int:
        raise TemplateRefused("depth is missing or not an integer")
    return Template(rules, prev_events, auth_events, depth, authoriser, hashes)


def event_from(
    template: Template, asked: Asked, content: Mapping[str, Any], server_name: str, key: SigningKey, now_ms: int
) -> Event:
    """Our member event. `content` is what the user wants in it. Raises `TemplateRefused` where none can be made."""
    own: dict[str, Any] = {**content, "membership": asked.membership}
    own.pop(AUTHORISER, None)
    if template.authoriser is not None:
        own[AUTHORISER] = template.authoriser
    try:
        return build_event(
            template.rules,
            room_id=asked.room_id,
            sender=asked.user_id,
            type=MEMBER,
            content=own,
            state_key=asked.user_id,
            prev_events=template.prev_events,
            auth_events=template.auth_events,
            depth=template.depth,
            origin_server_ts=now_ms,
            server_name=server_name,
            key=key,
            reference_hashes=template.reference_hashes,
        )
    except InvalidEvent as error:
        raise TemplateRefused(f"no event can be made of it: {error}") from error


def _rules(version: Any, asked: Asked) -> RoomRules:
    rules = ROOM_VERSIONS.get(version) if type(version) is str else None
    if rules is None:
        raise TemplateRefused(f"room version {str(version)[:64]!r}", 400, "M_INCOMPATIBLE_ROOM_VERSION")
    if rules.room_id_is_create_hash and not is_hashed_room_id(asked.room_id):
        raise TemplateRefused(f"a room of version {rules.version} cannot have this id")
    if asked.membership == KNOCK and not rules.knocking:
        raise TemplateRefused(f"there are no knocks in room version {rules.version}")
    return rules


def _check_identity(event: dict[str, Any], asked: Asked, rules: RoomRules) -> None:
    # "Before signing the returned template ..., the sending server MUST verify that: the `room_id` is equal to the
    # `roomId` path parameter; both the `sender` and `state_key` are equal to the `userId` path parameter; the `type`
    # of the event is `m.room.member`; the `membership` field inside `content` is ..."
    wanted = {"room_id": asked.room_id, "sender": asked.user_id, "state_key": asked.user_id, "type": MEMBER}
    for name, value in wanted.items():
        if event.get(name) != value:
            raise TemplateRefused(f"{name} is not ours: {str(event.get(name))[:255]!r}")
    # Versions 1 and 2: a server may name an id. Ours is our own.
    known = _KEYS | {"event_id"} if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER else _KEYS
    if foreign := sorted(event.keys() - known):
        raise TemplateRefused(f"a key that nobody asked for: {foreign[0][:255]!r}")


def _check_content(content: Any, asked: Asked, rules: RoomRules) -> str | None:
    if type(content) is not dict or content.get("membership") != asked.membership:
        raise TemplateRefused(f"membership is not {asked.membership}")
    if foreign := sorted(content.keys() - _CONTENT_KEYS):
        raise TemplateRefused(f"a key of content that nobody asked for: {foreign[0][:255]!r}")
    authoriser = content.get(AUTHORISER)
    if authoriser is None:
        return None
    # "An arbitrary user ID belonging to the resident server in the room being joined": by any other we would be let in
    # in the name of somebody who was not asked.
    if asked.membership != JOIN or not rules.restricted_join:
        raise TemplateRefused(f"{AUTHORISER} has no place here")
    if type(authoriser) is not str or not is_user_id(authoriser) or _domain(authoriser) != asked.server:
        raise TemplateRefused(f"{AUTHORISER} is no user of {asked.server}")
    return authoriser


def _references(event: dict[str, Any], name: str, rules: RoomRules, hashes: dict[str, str]) -> tuple[str, ...]:
    listed = event.get(name)
    if type(listed) is not list:
        raise TemplateRefused(f"{name} is missing or not an array")
    found = []
    for item in listed:
        if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER:
            item = _with_hash(item, name, hashes)
        if type(item) is not str or not is_event_id(item):
            raise TemplateRefused(f"{name} has an entry that is no event id")
        found.append(item)
    if len(set(found)) != len(found):
        raise TemplateRefused(f"{name} names an event twice")
    return tuple(found)


def _with_hash(item: Any, name: str, hashes: dict[str, str]) -> Any:
    # v1-2: [event id, {"sha256": hash}]. Synapse writes no hashes any more, and nobody reads them.
    if type(item) is not list or len(item) != 2 or type(item[0]) is not str or type(item[1]) is not dict:
        raise TemplateRefused(f"{name} has an entry that is not an id and its hashes")
    if type(item[1].get("sha256")) is str:
        hashes[item[0]] = item[1]["sha256"]
    return item[0]


def _domain(user_id: str) -> str | None:
    try:
        return domain_of(user_id)
    except InvalidIdentifier:
        return None
