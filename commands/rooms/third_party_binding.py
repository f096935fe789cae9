"""A third-party identifier was bound to a user of ours (server-server API, PUT /3pid/onbind): the identity server hands
over the invites that waited for it.

Nobody signs that request, so nothing in it is believed: each invite is judged by the proof in it, by us where its
sender is ours, else by the sender's server, which is asked to make the invite (/exchange_third_party_invite).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from annals.commands.errors import Refused
from annals.commands.rooms.reading import MEMBER
from annals.commands.rooms.third_party import ThirdPartyInvites
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.matrix.identifiers import domain_of, is_room_id, is_user_id

INVITES_MAX = 20
"""Of one request: each may be a request to another server."""
_ACCOUNT_SQL = "SELECT 1 FROM accounts WHERE user_id = %s"

#: Asks a server (first argument) to make the invite of a room (second). Raises Refused.
AskToExchange = Callable[[str, str, dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class BoundInvites:
    """Redeems invites that an identity server hands over."""

    database: Database
    invites: ThirdPartyInvites
    ask: AskToExchange
    server_name: str

    async def bound(self, content: dict[str, Any], cause: str) -> None:
        """All of the invites are tried; then Refused with what the last one that failed was refused by."""
        invites, user_id = content.get("invites", []), content.get("mxid")
        if type(invites) is not list or len(invites) > INVITES_MAX:
            raise _invalid(f"invites must be a list of at most {INVITES_MAX}")
        if type(user_id) is not str or not is_user_id(user_id) or domain_of(user_id) != self.server_name:
            raise _invalid("mxid is no user of this server")
        if not await self.database.read(lambda snapshot: _has_account(snapshot, user_id)):
            raise Refused(404, "M_NOT_FOUND", "No such user")
        refused: Refused | None = None
        for invite in invites:
            try:
                await self._redeem(user_id, invite, cause)
            except Refused as error:
                refused = error
        if refused is not None:
            raise refused

    async def _redeem(self, user_id: str, invite: Any, cause: str) -> None:
        invite = invite if type(invite) is dict else {}
        room_id, sender, signed = invite.get("room_id"), invite.get("sender"), invite.get("signed")
        if type(signed) is not dict or type(signed.get("token")) is not str or signed.get("mxid") != user_id:
            raise _invalid("An invite without a proof for this user")
        if type(room_id) is not str or not is_room_id(room_id) or type(sender) is not str or not is_user_id(sender):
            raise _invalid("An invite without room or sender")
        content = {"membership": "invite", "third_party_invite": {"signed": signed}}
        event = {"type": MEMBER, "room_id": room_id, "sender": sender, "state_key": user_id, "content": content}
        server = domain_of(sender)
        if server == self.server_name:
            await self.invites.exchange(server, room_id, event, cause)
        else:
            await self.ask(server, room_id, event)


def _has_account(snapshot: Snapshot, user_id: str) -> bool:
    return snapshot.one(_ACCOUNT_SQL, (user_id,)) is not None


def _invalid(reason: str) -> Refused:
    return Refused(400, "M_INVALID_PARAM", reason)
