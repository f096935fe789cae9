"""Plans that change a membership: join, leave, knock, invite, kick, ban, unban (client-server API, "Room membership").

What the room forbids is left to the auth rules, which judge every event that is built; here stands what the API adds:
requests that are fulfilled already, and those that would mean something else than was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from annals.commands.errors import Refused
from annals.commands.rooms.plans import Already, Plan, Send
from annals.commands.rooms.reading import (
    BAN,
    INVITE,
    JOIN,
    KNOCK,
    LEAVE,
    MEMBER,
    membership,
    power_levels,
    require_known,
    require_room,
    state_event,
)
from annals.matrix.identifiers import domain_of
from annals.rooms.heads import Intent
from annals.rooms.view import RoomView

_RESTRICTED = frozenset(("restricted", "knock_restricted"))


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one user's membership by a sender, with what goes into the event beside it."""

    sender: str
    target: str
    membership: str
    content: Mapping[str, Any] = field(default_factory=dict, hash=False)
    idempotency_key: str | None = None
    cause: str | None = None

    def intent(self, **more: Any) -> Intent:
        """The member event."""
        content = {**self.content, "membership": self.membership, **more}
        return Intent(self.sender, MEMBER, content, self.target, None, self.idempotency_key, self.cause)


def join(change: Change, joined_rooms: frozenset[str]) -> Plan:
    """Join; `joined_rooms` are the user's rooms, for join rules that ask for one of them."""

    def plan(view: RoomView) -> Send | Already:
        require_room(view)
        now = membership(view, change.target)
        # "If the user is already in the room": there is nothing to do, and nothing to tell the room again.
        if now == JOIN:
            return Already()
        if now == INVITE or not _is_restricted(view):
            return Send((change.intent(),))
        authoriser = _authoriser(view, change.target, joined_rooms)
        more = {"join_authorised_via_users_server": authoriser} if authoriser else {}
        return Send((change.intent(**more),))

    return plan


def _is_restricted(view: RoomView) -> bool:
    rules = view.known_header().rules
    join_rules = state_event(view, "m.room.join_rules")
    named = join_rules.content.get("join_rule") if join_rules else None
    return rules is not None and rules.restricted_join and named in _RESTRICTED


def _authoriser(view: RoomView, user_id: str, joined_rooms: frozenset[str]) -> str | None:
    """A local member who may invite, where the user fulfils one of the conditions of a restricted room."""
    join_rules = state_event(view, "m.room.join_rules")
    if not joined_rooms.intersection(_allowed_rooms(join_rules.content.get("allow") if join_rules else None)):
        return None
    levels = power_levels(view)
    users = levels.event.content.get("users") if levels.event else None
    named = users if isinstance(users, Mapping) else {}
    everybody: set[str] = {*levels.privileged, *named, str(levels.creator)}
    for candidate in sorted(everybody, key=lambda user: (-levels.user(user), user)):
        local = domain_of(candidate) == domain_of(user_id)
        if local and levels.user(candidate) >= levels.named("invite") and membership(view, candidate) == JOIN:
            return candidate
    return None


def _allowed_rooms(allow: object) -> Iterable[str]:
    for condition in allow if isinstance(allow, list) else ():
        if isinstance(condition, Mapping) and condition.get("type") == "m.room_membership":
            room_id = condition.get("room_id")
            if isinstance(room_id, str):
                yield room_id


def leave(change: Change) -> Plan:
    """Leave, reject an invite, or take a knock back."""

    def plan(view: RoomView) -> Send | Already:
        require_room(view)
        if membership(view, change.target) == LEAVE:
            return Already()
        return Send((change.intent(),))

    return plan


def kick(change: Change) -> Plan:
    """Make somebody else leave."""

    def plan(view: RoomView) -> Send:
        require_known(view)
        if membership(view, change.target) not in (JOIN, INVITE, KNOCK):
            raise Refused(403, "M_FORBIDDEN", "The target user is not in the room")
        return Send((change.intent(),))

    return plan


def unban(change: Change) -> Plan:
    """Lift a ban: a leave event for a user who is banned."""

    def plan(view: RoomView) -> Send:
        require_known(view)
        if membership(view, change.target) != BAN:
            raise Refused(403, "M_BAD_STATE", "The target user is not banned")
        return Send((change.intent(),))

    return plan


def invite(change: Change) -> Plan:
    """Invite somebody; who is in the room already cannot be."""

    def plan(view: RoomView) -> Send:
        require_known(view)
        if membership(view, change.target) == JOIN:
            raise Refused(403, "M_FORBIDDEN", "The target user is already in the room")
        return Send((change.intent(),))

    return plan


def ban(change: Change) -> Plan:
    """Ban somebody, in the room or not."""

    def plan(view: RoomView) -> Send:
        require_known(view)
        return Send((change.intent(),))

    return plan


def knock(change: Change) -> Plan:
    """Ask to be let in."""

    def plan(view: RoomView) -> Send:
        require_room(view)
        return Send((change.intent(),))

    return plan


def stay(change: Change) -> Plan:
    """Tell a room anew that somebody is in it, say with another name; who has left meanwhile is not brought back."""

    def plan(view: RoomView) -> Send | Already:
        require_known(view)
        return Send((change.intent(),)) if membership(view, change.target) == JOIN else Already()

    return plan
