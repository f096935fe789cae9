"""What local users do in rooms, as the API calls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from annals.commands.aliases import CANONICAL_ALIAS
from annals.commands.errors import Refused
from annals.commands.rooms.builder import Builders
from annals.commands.rooms.checks import check_aliases, check_annotation, check_takes_invites
from annals.commands.rooms.creating import RoomCreation, rules_of_version
from annals.commands.rooms.creation import RoomRequest
from annals.commands.rooms.handshakes import Handshakes
from annals.commands.rooms.inheritance import Inheritance
from annals.commands.rooms.inviting import OutgoingInvites
from annals.commands.rooms.membership import (
    Change,
    NeedsAnotherServer,
    ban,
    invite,
    join,
    kick,
    knock,
    leave,
    stay,
    unban,
)
from annals.commands.rooms.plans import Plan
from annals.commands.rooms.reading import MEMBER
from annals.commands.rooms.sending import annotation_of, check_key, intent_of, redact, send
from annals.commands.rooms.showing import Showing
from annals.commands.rooms.upgrading import Upgrades
from annals.database.pool import Database
from annals.database.text import restore
from annals.matrix.identifiers import domain_of, is_user_id
from annals.projectors.positions.appending import Appender
from annals.schemas.facts.rooms import RoomForgotten

_JOINED_SQL = "SELECT room_id FROM local_current_membership WHERE user_id = %s AND membership = 'join'"
_FORGET_SQL = "SELECT membership, forgotten FROM local_current_membership WHERE user_id = %s AND room_id = %s"


class Rooms:
    """Commands on rooms. `cause` is the request's id; keys make a retry harmless."""

    def __init__(
        self,
        appender: Appender,
        database: Database,
        builders: Builders,
        creation: RoomCreation,
        outgoing: OutgoingInvites,
        server_name: str,
        default_room_version: str,
        handshakes: Handshakes,
        upgrades: Upgrades,
        inheritance: Inheritance,
        showing: Showing,
    ) -> None:
        self._appender = appender
        self._database = database
        self._builders = builders
        self._creation = creation
        self._outgoing, self._server_name = outgoing, server_name
        self._default_room_version = default_room_version
        self._handshakes, self._upgrades = handshakes, upgrades
        self._inheritance = inheritance
        self._showing = showing

    async def create(self, request: RoomRequest, room_version: str | None, cause: str) -> str:
        """Make a room; its id. Refused: M_UNSUPPORTED_ROOM_VERSION, M_ROOM_IN_USE, M_INVALID_PARAM, M_FORBIDDEN."""
        rules = rules_of_version(room_version or self._default_room_version)
        profiles = await self._showing.profiles([request.creator, *request.invite])
        return await self._creation.create(request, rules, profiles, cause)

    async def upgrade(
        self, room_id: str, user_id: str, room_version: str, additional_creators: Sequence[str], cause: str
    ) -> str:
        """Replace a room by one of this version; its id. Refused: M_UNSUPPORTED_ROOM_VERSION, and as Upgrades says."""
        rules = rules_of_version(room_version)
        profile = (await self._showing.profiles([user_id])).get(user_id, {})
        new_id = await self._upgrades.upgrade(room_id, user_id, rules, additional_creators, profile, cause)
        await self._inheritance.give(user_id, new_id, cause)
        return new_id

    async def send(
        self,
        room_id: str,
        sender: str,
        event_type: str,
        content: dict[str, Any],
        cause: str,
        *,
        state_key: str | None = None,
        key: str | None = None,
    ) -> str:
        """Send an event (with `state_key`, a state event); its id. The same `key` again gives the first one's.

        Refused: M_FORBIDDEN; M_BAD_JSON, M_TOO_LARGE for what cannot be an event; of single types, what checks.py and
        sending.py say.
        """
        check_key(key)
        intent = intent_of(sender, event_type, content, state_key, key, cause)
        if (annotation := annotation_of(content)) is not None:
            await self._database.read(lambda s: check_annotation(s, room_id, sender, event_type, annotation, key))
        if event_type == CANONICAL_ALIAS and state_key == "":
            await self._database.read(lambda s: check_aliases(s, room_id, content))
        is_invite = event_type == MEMBER and content.get("membership") == "invite"
        if is_invite and state_key is not None and self._is_elsewhere(state_key):
            rest = {name: value for name, value in content.items() if name != "membership"}
            return await self._outgoing.invite(room_id, Change(sender, state_key, "invite", rest, key, cause))
        if is_invite and state_key is not None:
            await self._database.read(lambda snapshot: check_takes_invites(snapshot, state_key))
        plan = send(intent) if intent.redacts is None else redact(intent, intent.redacts)
        return (await self._builders.carry_out(room_id, plan)).event_ids[0]

    async def join(
        self,
        user_id: str,
        room_id: str,
        reason: str | None,
        more: Mapping[str, Any],
        cause: str,
        servers: Sequence[str] = (),
    ) -> None:
        """Join a room, where it must be by way of other servers: `servers` first, then those we know to be in it.

        `more`: e.g. a third_party_signed.
        """
        change = await self._change(user_id, user_id, "join", reason, cause, more)
        await self._join(change, room_id, servers, cause)
        await self._showing.look_after(room_id, user_id, change.content, cause)
        await self._inheritance.give(user_id, room_id, cause)

    async def _join(self, change: Change, room_id: str, servers: Sequence[str], cause: str) -> None:
        standing = await self._handshakes.standing(room_id, change.target)
        asked = (*servers, *standing.servers)
        if standing.here or not asked:
            try:
                return await self._join_here(change, room_id)
            except NeedsAnotherServer as needed:
                if not needed.servers:
                    raise
                asked = (*needed.servers, *servers)
        ended = await self._handshakes.carry_out("join", room_id, change.target, asked, change.content, cause)
        if ended.attached:
            # Somebody else of ours has joined meanwhile.
            await self._join_here(change, room_id)

    async def _join_here(self, change: Change, room_id: str) -> None:
        joined = await self._database.read(lambda s: s.rows(_JOINED_SQL, (change.target,)))
        await self._carry_out(room_id, join(change, frozenset(restore(room) for (room,) in joined)))

    async def leave(self, user_id: str, room_id: str, reason: str | None, cause: str) -> None:
        """Leave a room, reject an invite, take a knock back."""
        standing = await self._handshakes.standing(room_id, user_id)
        if not standing.here and standing.membership in ("invite", "knock"):
            content = _with_reason(reason)
            await self._handshakes.carry_out("leave", room_id, user_id, standing.servers, content, cause)
        elif standing.here or standing.membership != "leave":
            change = Change(user_id, user_id, "leave", _with_reason(reason), None, cause)
            await self._carry_out(room_id, leave(change))

    async def knock(
        self, user_id: str, room_id: str, reason: str | None, cause: str, servers: Sequence[str] = ()
    ) -> None:
        """Ask to be let in; `servers` as in `join`."""
        standing = await self._handshakes.standing(room_id, user_id)
        change = await self._change(user_id, user_id, "knock", reason, cause, {})
        asked = (*servers, *standing.servers)
        if standing.here or not asked:
            await self._carry_out(room_id, knock(change))
        else:
            await self._handshakes.carry_out("knock", room_id, user_id, asked, change.content, cause)

    async def invite(self, sender: str, target: str, room_id: str, reason: str | None, cause: str) -> None:
        """Invite a user, of whatever server."""
        _check_user(target)
        change = await self._change(sender, target, "invite", reason, cause, {})
        if self._is_elsewhere(target):
            await self._outgoing.invite(room_id, change)
        else:
            await self._database.read(lambda snapshot: check_takes_invites(snapshot, target))
            await self._carry_out(room_id, invite(change))

    async def kick(self, sender: str, target: str, room_id: str, reason: str | None, cause: str) -> None:
        """Make a user leave."""
        _check_user(target)
        await self._carry_out(room_id, kick(Change(sender, target, "leave", _with_reason(reason), None, cause)))

    async def ban(self, sender: str, target: str, room_id: str, reason: str | None, cause: str) -> None:
        """Ban a user."""
        _check_user(target)
        await self._carry_out(room_id, ban(Change(sender, target, "ban", _with_reason(reason), None, cause)))

    async def unban(self, sender: str, target: str, room_id: str, reason: str | None, cause: str) -> None:
        """Lift a ban."""
        _check_user(target)
        await self._carry_out(room_id, unban(Change(sender, target, "leave", _with_reason(reason), None, cause)))

    async def forget(self, user_id: str, room_id: str, cause: str) -> None:
        """Put a room out of sight. Refused: M_UNKNOWN while the user is in it, or never was."""
        row = await self._database.read(lambda s: s.one(_FORGET_SQL, (user_id, room_id)))
        if row is None:
            raise Refused(400, "M_UNKNOWN", f"User {user_id} was never in the room")
        membership, forgotten = row
        if membership not in ("leave", "ban"):
            raise Refused(400, "M_UNKNOWN", f"User {user_id} is in the room")
        if not forgotten:
            await self._appender.submit_and_settle([RoomForgotten(self._appender.envelope(cause), room_id, user_id)])

    async def show_member(self, room_id: str, user_id: str, content: dict[str, Any], idempotency_key: str) -> None:
        """Tell a room how a user who is in it looks now: a step of a command that may run again."""
        change = Change(user_id, user_id, "join", content, idempotency_key, idempotency_key)
        await self._carry_out(room_id, stay(change))

    def _is_elsewhere(self, user_id: str) -> bool:
        return is_user_id(user_id) and domain_of(user_id) != self._server_name

    async def _carry_out(self, room_id: str, plan: Plan) -> None:
        await self._builders.carry_out(room_id, plan)

    async def _change(
        self,
        sender: str,
        target: str,
        membership: str,
        reason: str | None,
        cause: str,
        more: Mapping[str, Any],
    ) -> Change:
        profile = (await self._showing.profiles([target])).get(target, {})
        return Change(sender, target, membership, {**profile, **more, **_with_reason(reason)}, None, cause)


def _with_reason(reason: str | None) -> dict[str, Any]:
    return {} if reason is None else {"reason": reason}


def _check_user(user_id: str) -> None:
    if not is_user_id(user_id):
        raise Refused(400, "M_INVALID_PARAM", f"Not a user id: {user_id[:300]}")
