"""What commands need of the network for invites over servers."""

from __future__ import annotations

from typing import Any

from annals.commands.errors import Refused
from annals.commands.rooms.inviting import RemoteInviter
from annals.commands.rooms.third_party_binding import AskToExchange
from annals.federation.client import path_of
from annals.federation.errors import FederationError
from annals.federation.errors import Refused as RefusedThere
from annals.ingest.resident.errors import InputRefused
from annals.ingest.resident.inviting import AskedToSign
from annals.matrix.events import Event
from annals.matrix.identifiers import domain_of
from annals.queries.federation.joining import RoomAnswers
from annals.server.peers import Peers

_EXCHANGE_TIMEOUT_S = 20.0


def remote_inviter(peers: Peers, answers: RoomAnswers) -> RemoteInviter:
    """Asks the invited user's server; what it is shown of the room is read from the tables."""
    asked = AskedToSign(peers.client, peers.keyring)

    async def ask(event: Event) -> Event:
        state = await answers.shown_state(event.room_id, event.sender)
        try:
            return await asked.invite(domain_of(event.state_key or ""), event, state)
        except InputRefused as refused:
            raise Refused(refused.status, refused.errcode, refused.reason, refused.extra) from refused

    return ask


def exchanger(peers: Peers) -> AskToExchange:
    """Asks the sender's server of a third-party invite to make an invite of it."""

    async def ask(server: str, room_id: str, event: dict[str, Any]) -> None:
        path = path_of("federation", "v1", "exchange_third_party_invite", room_id)
        try:
            await peers.client.put(server, path, event, timeout_s=_EXCHANGE_TIMEOUT_S)
        except RefusedThere as refused:
            status = refused.status if refused.status in (400, 403, 404) else 502
            raise Refused(status, refused.errcode or "M_UNKNOWN", f"{server}: {refused.message}"[:500]) from refused
        except FederationError as error:
            raise Refused(502, "M_UNKNOWN", f"{server} does not answer") from error

    return ask
