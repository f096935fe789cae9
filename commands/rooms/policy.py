"""Events of ours and the room's policy server: its signature is got before they are logged.

judged ─▶ does the room use a policy server? ─▶ its signature ─▶ log
                                                   └─ none: the client is told, and nothing is logged
"""

from __future__ import annotations

from typing import Protocol

from annals.commands.errors import Refused
from annals.federation import errors
from annals.matrix.events import Event, event_of
from annals.matrix.format import check_format
from annals.matrix.policy_servers import PolicyServer, with_signature

_LIMITED = 429


class SignsSoon(Protocol):
    """Asks a policy server (federation.policy.PolicyServers)."""

    async def sign_soon(self, event: Event, server: PolicyServer) -> str:
        """Its valid signature; raises FederationError."""
        ...


class Unsigned(Exception):
    """An event that the room would accept lacks the signature of its policy server."""

    def __init__(self, event: Event, server: PolicyServer) -> None:
        super().__init__(event.event_id)
        self.event, self.server = event, server


async def signature_for(servers: SignsSoon, unsigned: Unsigned) -> str:
    """The policy server's signature; raises Refused: what the client is told."""
    try:
        return await servers.sign_soon(unsigned.event, unsigned.server)
    except errors.Refused as refused:
        raise _told(refused) from refused
    except errors.FederationError as error:
        # "If the event still does not have a valid Policy Server signature, … the homeserver SHOULD: If applicable,
        # reject the Client-Server API request which was generating the event."
        said = f"The room's policy server {error.server} cannot be asked: {error.reason}"
        raise Refused(502, "M_UNKNOWN", said[:500]) from error


def signed(event: Event, server: PolicyServer, signature: str) -> Event:
    """The event with the policy server's signature; its id stays. Raises InvalidEvent where that makes it too large."""
    pdu = with_signature(event.pdu, server.server_name, signature)
    check_format(pdu, event.rules)
    return event_of(pdu, event.rules, event.event_id)


def _told(refused: errors.Refused) -> Refused:
    # "If the Policy Server returned an error, that error SHOULD be provided to the client verbatim."
    said = refused.message or "The room's policy server refuses the event"
    if refused.status == _LIMITED:
        wait = {} if refused.retry_after_ms is None else {"retry_after_ms": refused.retry_after_ms}
        return Refused(_LIMITED, refused.errcode or "M_LIMIT_EXCEEDED", said, wait)
    if not refused.is_final:
        return Refused(502, refused.errcode or "M_UNKNOWN", said)
    return Refused(403, refused.errcode or "M_FORBIDDEN", said)
