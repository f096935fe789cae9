"""What commands need of the network to invite users of other servers."""

from __future__ import annotations

from annals.commands.errors import Refused
from annals.commands.rooms.inviting import RemoteInviter
from annals.ingest.resident.errors import InputRefused
from annals.ingest.resident.inviting import AskedToSign
from annals.matrix.events import Event
from annals.matrix.identifiers import domain_of
from annals.queries.federation.joining import RoomAnswers
from annals.server.peers import Peers


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
