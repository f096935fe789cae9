"""Check 7 of a PDU: the room's policy server (server-server API, "Policy Servers").

An event that lacks its signature is in the graph and waits, neither shown nor followed, until the answer to the
question about it is on the log. Nothing here asks anybody.
"""

from __future__ import annotations

from annals.matrix.events import Event
from annals.matrix.policy_servers import (
    POLICY,
    PolicyServer,
    is_exempt,
    is_signed_by,
    is_valid,
    named_by,
)
from annals.rooms.needs import Needs
from annals.rooms.residents import server_of
from annals.rooms.state import Lacking
from annals.rooms.view import RoomView
from annals.schemas.facts.rooms import PolicyAnswered

SIGNED, REFUSED, UNAVAILABLE, UNNEEDED = "signed", "refused", "unavailable", "unneeded"

NOT_SIGNED = "policy_server_not_asked_yet"
#: Reasons of a soft failure.
REFUSED_BY_POLICY = "refused_by_policy_server"
UNAVAILABLE_POLICY = "policy_server_unavailable"
WRONG_SIGNATURE = "wrong_policy_signature"
_REASONS = {REFUSED: REFUSED_BY_POLICY, UNAVAILABLE: UNAVAILABLE_POLICY}


def policy_server_of(view: RoomView) -> PolicyServer | None:
    """The policy server that the room uses by its current state, if any."""
    event_id = view.current_state().get(POLICY)
    if event_id is None:
        return None
    entry = view.entry(event_id)
    # A redaction takes the whole content away, in all room versions.
    server = named_by(entry.event.content) if entry is not None and entry.redacted_by is None else None
    # "The server name denoted by the `m.room.policy` state event's `via` has at least one joined user in the room in
    # *current state*."
    return server if server is not None and _is_in(view, server.server_name) else None


def lacks_signature(view: RoomView, event: Event) -> PolicyServer | None:
    """The policy server whose valid signature the event should have and has not."""
    if is_exempt(event.type, event.state_key):
        return None
    server = policy_server_of(view)
    return None if server is None or is_signed_by(event, server) else server


def refusal_in(answer: PolicyAnswered, event: Event, server: PolicyServer | None) -> str | None:
    """Why the answer keeps the event out of the room, if it does; `server` is the one that lacks its signature now."""
    if server is None:
        return None
    if answer.outcome == SIGNED:
        # "After asking for a signature, homeservers SHOULD validate the returned signature".
        return None if is_valid(answer.signature, event.pdu, event.rules, server) else WRONG_SIGNATURE
    return _REASONS.get(answer.outcome, REFUSED_BY_POLICY)


def decides(answer: PolicyAnswered, server: PolicyServer | None) -> bool:
    """Whether it says anything of the room as it is: another server that it has named meanwhile is asked too."""
    return server is None or (answer.server == server.server_name and answer.outcome != UNNEEDED)


def _is_in(view: RoomView, server_name: str) -> bool:
    if not server_name:
        return False
    moved = {user: m for user, m in view.beside.moved.items() if server_of(user) == server_name}
    if "join" in moved.values():
        return True
    wanted = (server_name, tuple(sorted(moved)))
    found = view.beside.servers.get(wanted)
    if found is None:
        raise Lacking(Needs(servers=frozenset([(view.room_id, *wanted)])))
    return found
