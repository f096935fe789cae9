"""Events that other servers hand in at us, and the room's policy server: it is asked before they are logged.

What it does not answer in time is logged without its signature, and waits as any event does that is pushed to us.
"""

from __future__ import annotations

from typing import Protocol

from annals.database.pool import Database
from annals.federation.errors import FederationError
from annals.federation.errors import Refused as ServerRefused
from annals.ingest.policy.waiting import policy_server_in
from annals.ingest.resident.errors import InputRefused
from annals.matrix.events import Event, event_of
from annals.matrix.policy_servers import PolicyServer, is_signed_by, with_signature


class SignsSoon(Protocol):
    """Asks a policy server (federation.policy.PolicyServers)."""

    async def sign_soon(self, event: Event, server: PolicyServer) -> str:
        """Its valid signature; raises FederationError."""
        ...


class PolicyChecks:
    """Gets signatures for events of other servers."""

    def __init__(self, servers: SignsSoon, database: Database) -> None:
        self._servers, self._database = servers, database

    async def recommended(self, event: Event) -> Event:
        """The event with the signature that the room wants, if that can be had. Raises InputRefused where it is
        refused."""
        server = await self._database.read(lambda snapshot: policy_server_in(snapshot, event.room_id))
        if server is None or is_signed_by(event, server):
            return event
        try:
            signature = await self._servers.sign_soon(event, server)
        except ServerRefused as refused:
            if not refused.is_final:
                return event
            said = refused.message or "The room's policy server refuses the event"
            raise InputRefused(403, refused.errcode or "M_FORBIDDEN", said) from refused
        except FederationError:
            return event
        return event_of(with_signature(event.pdu, server.server_name, signature), event.rules, event.event_id)
