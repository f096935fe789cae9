"""What other servers ask of us as a resident of a room: member events for their users to sign, and our leave for those
that join a restricted room (server-server API, "Joining Rooms", "Knocking upon a room", "Leaving Rooms").
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from annals.commands.errors import Refused
from annals.commands.rooms.drafts import Drafts
from annals.commands.rooms.membership import authoriser_of, is_restricted, may_authorise
from annals.commands.rooms.reading import INVITE, JOIN, KNOCK, MEMBER, membership
from annals.commands.rooms.restricted import Conditions, conditions_of
from annals.database.pool import Database
from annals.matrix.identifiers import domain_of, is_user_id
from annals.projectors.rooms.standing import standings
from annals.rooms.heads import Intent
from annals.rooms.view import RoomView

#: What a template leaves to the server that signs it.
_NOT_IN_TEMPLATES = frozenset(("hashes", "signatures", "event_id", "unsigned"))


@dataclass(frozen=True, slots=True)
class Template:
    """A member event that a user of another server may sign."""

    room_version: str
    event: dict[str, Any] = field(hash=False)


class Templates:
    """Makes templates; nothing is logged."""

    def __init__(self, drafts: Drafts, database: Database, server_name: str) -> None:
        self._drafts, self._database, self._server_name = drafts, database, server_name

    async def join(self, origin: str, room_id: str, user_id: str, versions: Collection[str]) -> Template:
        """GET make_join. Raises Refused: 403, 404, M_INCOMPATIBLE_ROOM_VERSION, and what `Conditions.check` says."""
        await self._check(origin, room_id, user_id, versions)
        conditions = await self._database.read(lambda snapshot: conditions_of(snapshot, room_id, user_id))

        def wish(view: RoomView) -> Intent:
            if not is_restricted(view) or membership(view, user_id) in (JOIN, INVITE):
                return _member(user_id, JOIN)
            conditions.check()
            return _member(user_id, JOIN, join_authorised_via_users_server=self._authoriser(view, conditions))

        return await self._template(room_id, wish)

    async def leave(self, origin: str, room_id: str, user_id: str) -> Template:
        """GET make_leave."""
        await self._check(origin, room_id, user_id, None)
        return await self._template(room_id, lambda _: _member(user_id, "leave"))

    async def knock(self, origin: str, room_id: str, user_id: str, versions: Collection[str]) -> Template:
        """GET make_knock."""
        await self._check(origin, room_id, user_id, versions)
        return await self._template(room_id, lambda _: _member(user_id, KNOCK))

    async def check_authorised(self, room_id: str, user_id: str, authoriser: str) -> None:
        """Whether a join that names `authoriser`, a user of ours, may have our signature now; else Refused."""
        conditions = await self._database.read(lambda snapshot: conditions_of(snapshot, room_id, user_id))

        def wish(view: RoomView) -> Intent:
            if is_restricted(view) and membership(view, user_id) not in (JOIN, INVITE):
                conditions.check()
            if not may_authorise(view, authoriser):
                raise _cannot_grant()
            return _member(user_id, JOIN, join_authorised_via_users_server=authoriser)

        await self._drafts.draft(room_id, wish)

    def _authoriser(self, view: RoomView, conditions: Conditions) -> str:
        found = authoriser_of(view, self._server_name, conditions.members)
        if found is None:
            raise _cannot_grant()
        return found

    async def _check(self, origin: str, room_id: str, user_id: str, versions: Collection[str] | None) -> None:
        # "The user ID the join event will be for": whose server asks.
        if not is_user_id(user_id) or domain_of(user_id) != origin:
            raise Refused(403, "M_FORBIDDEN", "The user is not one of the requesting server")

        standing = (await self._database.read(lambda snapshot: standings(snapshot, [room_id]))).get(room_id)
        if standing is not None and not standing.joined and versions is None:
            # A leave: "This could mean that the user is not in the room." There is no 404 for a room that is known.
            raise Refused(403, "M_FORBIDDEN", "Nobody of this server is in the room any more")
        if standing is None or not standing.joined:
            raise Refused(404, "M_NOT_FOUND", "This server is not in the room")
        # "If the server is denied access to a room, the receiving server MUST reply with a 403"
        if not standing.admits(origin):
            raise Refused(403, "M_FORBIDDEN", "The room's access control list bars the server")
        version = standing.rules.version
        if versions is not None and version not in versions:
            raise Refused(
                400, "M_INCOMPATIBLE_ROOM_VERSION", f"The room has version {version}", {"room_version": version}
            )

    async def _template(self, room_id: str, wish: Callable[[RoomView], Intent]) -> Template:
        event = await self._drafts.draft(room_id, wish)
        pdu = {key: value for key, value in event.pdu.items() if key not in _NOT_IN_TEMPLATES}
        return Template(event.rules.version, {**pdu, "origin": self._server_name})


def _member(user_id: str, wanted: str, **more: str) -> Intent:
    return Intent(user_id, MEMBER, {"membership": wanted, **more}, user_id)


def _cannot_grant() -> Refused:
    # "The resident server uses a 400 M_UNABLE_TO_GRANT_JOIN error … to denote that the joining server should try a
    # different server."
    return Refused(400, "M_UNABLE_TO_GRANT_JOIN", "No user of this server may let the user in")
