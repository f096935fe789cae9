"""Whether the room machine will accept our join by what one server answered. Pure.

What the machine refuses ends the handshake for all servers, so it is asked of each answer before the log has any of
it: another server's answer may let us in. Judged are our event and what it stands on, not the whole room.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from annals.ingest.handshakes.answers import CREATE
from annals.ingest.handshakes.errors import AnswerRefused
from annals.matrix.auth_rules import Rejection, allowed, check_auth_events
from annals.matrix.events import Event, StateKey


def check_allowed(ours: Event, stands_on: Sequence[Event], state_ids: Collection[str]) -> None:
    """Raises `AnswerRefused` where our event would be rejected with this room before it.

    `stands_on`: by what it is judged, and what this cites, in an order in which it stands behind that; with the create
    event. `state_ids` are those of the whole state.
    """
    events = {event.event_id: event for event in stands_on}
    in_state = frozenset(state_ids)
    state = {event.key: event for event in stands_on if event.event_id in in_state}
    rejected: set[str] = set()
    for event in stands_on:
        if _rejection(event, events, rejected, state[CREATE]):
            rejected.add(event.event_id)
    # What was rejected is no state.
    permitting = {key: event for key, event in state.items() if event.event_id not in rejected}
    refusal = _rejection(ours, events, rejected, state[CREATE]) or allowed(ours, permitting)
    if refusal is not None:
        raise AnswerRefused(f"our join is not allowed by the state that was answered: {_said(refusal)}")


def _rejection(event: Event, events: Mapping[str, Event], rejected: set[str], create: Event) -> Rejection | None:
    # 4. Passes authorisation rules based on the event's auth events, otherwise it is rejected.
    cited = [events[event_id] for event_id in event.auth_events]
    auth: dict[StateKey, Event] = {other.key: other for other in cited}
    if not event.rules.create_cited_in_auth_events and event.key != CREATE:
        auth[CREATE] = create
    return check_auth_events(event, [(other, other.event_id in rejected) for other in cited]) or allowed(event, auth)


def _said(rejection: Rejection) -> str:
    return f"{rejection.reason} (rule {rejection.rule})"
