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
from annals.matrix.identifiers import domain_of, is_user_id
from annals.matrix.power_levels import PowerLevels
from annals.rooms.heads import Intent
from annals.rooms.view import RoomView


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


class NeedsAnotherServer(Refused):
    """The user may join, but nobody of this server can say so: the join goes by way of one of `servers`."""

    def __init__(self, servers: tuple[str, ...]) -> None:
        super().__init__(403, "M_FORBIDDEN", "Nobody on this server can let the user in")
        self.servers = servers


def join(change: Change, joined_rooms: frozenset[str]) -> Plan:
    """Join; `joined_rooms` are the user's rooms, for join rules that ask for one of them."""

    def plan(view: RoomView) -> Send | Already:
        require_room(view)
        now = membership(view, change.target)
        # "If the user is already in the room": there is nothing to do, and nothing to tell the room again.
        if now == JOIN:
            return Already()
        if now == INVITE or not is_restricted(view) or not fulfils_condition(view, joined_rooms):
            return Send((change.intent(),))
        authoriser = authoriser_of(view, domain_of(change.target))
        if authoriser is None:
            raise NeedsAnotherServer(_other_authorisers(view))
        return Send((change.intent(join_authorised_via_users_server=authoriser),))

    return plan


def is_restricted(view: RoomView) -> bool:
    """Whether who was not invited may join by being in another room."""
    rules = view.known_header().rules
    if rules is None:
        return False
    named = join_rule_content(view).get("join_rule")
    return (rules.restricted_join and named == "restricted") or (
        rules.knock_restricted_join and named == "knock_restricted"
    )


def join_rule_content(view: RoomView) -> Mapping[str, Any]:
    """The content of the m.room.join_rules in force."""
    join_rules = state_event(view, "m.room.join_rules")
    return join_rules.content if join_rules else {}


def fulfils_condition(view: RoomView, joined_rooms: frozenset[str]) -> bool:
    """Whether a member of these rooms fulfils one of the conditions of a restricted room."""
    return not joined_rooms.isdisjoint(allowed_rooms(join_rule_content(view)))


def authoriser_of(view: RoomView, server_name: str, members: Iterable[str] | None = None) -> str | None:
    """A member of the server who may invite: by that user's leave somebody joins a restricted room.

    `members`: all of the server; without them, those whom the power levels name are looked at.
    """
    levels = power_levels(view)
    candidates = _named(levels) if members is None else members
    local = {user for user in candidates if is_user_id(user) and domain_of(user) == server_name}
    for candidate in sorted(local, key=lambda user: (-levels.user(user), user)):
        if may_authorise(view, candidate):
            return candidate
    return None


def _other_authorisers(view: RoomView) -> tuple[str, ...]:
    """Servers of those who could let somebody in, the most powerful first."""
    levels = power_levels(view)
    users = sorted(filter(is_user_id, _named(levels)), key=lambda user: (-levels.user(user), user))
    return tuple(dict.fromkeys(domain_of(user) for user in users if may_authorise(view, user)))


def _named(levels: PowerLevels) -> Iterable[str]:
    users = levels.event.content.get("users") if levels.event else None
    named = users if isinstance(users, Mapping) else {}
    return [user for user in (*levels.privileged, *named, levels.creator) if isinstance(user, str)]


def may_authorise(view: RoomView, user_id: str) -> bool:
    """Whether a user's leave lets others join a restricted room."""
    levels = power_levels(view)
    return levels.user(user_id) >= levels.named("invite") and membership(view, user_id) == JOIN


def allowed_rooms(join_rules: Mapping[str, Any]) -> Iterable[str]:
    """The rooms whose members may join, by the content of an m.room.join_rules."""
    allow = join_rules.get("allow")
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
        check_invite(view, change)
        return Send((change.intent(),))

    return plan


def check_invite(view: RoomView, change: Change) -> None:
    """Refuse an invite that would change nothing, or for a room that is not here."""
    require_known(view)
    if membership(view, change.target) == JOIN:
        raise Refused(403, "M_FORBIDDEN", "The target user is already in the room")


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
