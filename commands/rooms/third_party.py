"""Third-party invites whose token somebody of another server has redeemed (server-server API, "Third-party invites").

The server that sent the m.room.third_party_invite turns it into an invite of the user whom it turned out to mean; the
auth rules check the proof, which is signed by the identity server's key of that first event.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from annals.commands.errors import Refused
from annals.commands.rooms.builder import Builders
from annals.commands.rooms.inviting import OutgoingInvites
from annals.commands.rooms.membership import Change, invite
from annals.commands.rooms.reading import MEMBER
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.matrix.identifiers import domain_of, is_user_id
from annals.projectors.rooms.standing import RoomStanding, standings

_INVITE_SQL = """
    SELECT e.client_json FROM current_state cs JOIN events e USING (room_id, event_id)
    WHERE cs.room_id = %s AND cs.type = 'm.room.third_party_invite' AND cs.state_key = %s AND e.redacted_by IS NULL
"""


class ThirdPartyInvites:
    """Exchanges third-party invites of our users for invites."""

    def __init__(self, database: Database, builders: Builders, outgoing: OutgoingInvites, server_name: str) -> None:
        self._database, self._builders, self._outgoing = database, builders, outgoing
        self._server_name = server_name

    async def exchange(self, origin: str, room_id: str, partial: dict[str, Any], cause: str) -> None:
        """PUT exchange_third_party_invite. Raises Refused: 400 for what is none, 403 what the room forbids, 404."""
        change = self._change(room_id, partial, cause)
        standing, name = await self._database.read(lambda snapshot: _look(snapshot, room_id, change))
        if standing is None or not standing.joined:
            raise Refused(404, "M_NOT_FOUND", "This server is not in the room")
        if not standing.admits(origin):
            raise Refused(403, "M_FORBIDDEN", "The room's access control list bars the server")
        if name is not None:
            # An identity server's notice has no name; who is shown the invite wants one.
            proof = change.content["third_party_invite"]
            change = replace(change, content={"third_party_invite": {"display_name": name, **proof}})
        if domain_of(change.target) == self._server_name:
            await self._builders.carry_out(room_id, invite(change))
        else:
            await self._outgoing.invite(room_id, change)

    def _change(self, room_id: str, partial: dict[str, Any], cause: str) -> Change:
        content = partial.get("content")
        sender, target = partial.get("sender"), partial.get("state_key")
        if partial.get("type") != MEMBER or partial.get("room_id") != room_id or type(content) is not dict:
            raise _invalid("Not a member event of the room in the path")
        named = content.get("third_party_invite")
        if content.get("membership") != "invite" or type(named) is not dict:
            raise _invalid("Not a third-party invite")
        # "The user ID of the user who sent the original `m.room.third_party_invite` event."
        if type(sender) is not str or not is_user_id(sender) or domain_of(sender) != self._server_name:
            raise _invalid("The sender is not of this server")
        if type(target) is not str or not is_user_id(target):
            raise _invalid("The state key is no user id")
        # We sign it in our user's name: nothing goes into it but the proof.
        proof = {key: named[key] for key in ("display_name", "signed") if key in named}
        return Change(sender, target, "invite", {"third_party_invite": proof}, None, cause)


def _look(snapshot: Snapshot, room_id: str, change: Change) -> tuple[RoomStanding | None, str | None]:
    """The room, and the name that the third-party invite of the proof's token shows."""
    standing = standings(snapshot, [room_id]).get(room_id)
    signed = change.content["third_party_invite"].get("signed")
    token = signed.get("token") if type(signed) is dict else None
    row = snapshot.one(_INVITE_SQL, (room_id, token)) if type(token) is str else None
    content = loads(restore(row[0])).get("content") if row is not None else None
    name = content.get("display_name") if type(content) is dict else None
    return standing, name if type(name) is str else None


def _invalid(reason: str) -> Refused:
    return Refused(400, "M_INVALID_PARAM", reason)
