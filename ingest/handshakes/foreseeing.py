"""Whether the room machine will accept our join by what one server answered. Pure.

What the machine refuses ends the handshake for all servers, so it is asked of each answer before the log has any of
it: another server's answer may let us in. Judged are our event and what it stands on, not the whole room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from annals.ingest.handshakes.answers import CREATE, WholeRoom
from annals.ingest.handshakes.errors import AnswerRefused
from annals.matrix.auth_events import auth_types_for
from annals.matrix.auth_rules import Rejection, allowed, check_auth_events
from annals.matrix.events import Event, StateKey


def check_allowed(ours: Event, room: WholeRoom) -> None:
    """Raises `AnswerRefused` where our event would be rejected with this room before it."""
    events = {item.event.event_id: item.event for item in room.events}
    state = {events[event_id].key: events[event_id] for event_id in room.state}
    keys = (CREATE, *auth_types_for(ours.type, ours.sender, ours.state_key, ours.content, ours.rules))
    read = [state[key] for key in keys if key in state]
    needed = _closed((*(event.event_id for event in read), *ours.auth_events), events)
    rejected: set[str] = set()
    # `room.events` has what is cited before what cites it.
    for event in events.values():
        if event.event_id in needed and _rejection(event, events, rejected, state[CREATE]):
            rejected.add(event.event_id)
    # What was rejected is no state.
    permitting = {event.key: event for event in read if event.event_id not in rejected}
    refusal = _rejection(ours, events, rejected, state[CREATE]) or allowed(ours, permitting)
    if refusal is not None:
        raise AnswerRefused(f"our join is not allowed by the state that was answered: {_said(refusal)}")


def _closed(starts: Sequence[str], events: Mapping[str, Event]) -> set[str]:
    """These, and all that they cite, directly or not."""
    found: set[str] = set()
    todo = list(starts)
    while todo:
        event_id = todo.pop()
        if event_id not in found:
            found.add(event_id)
            todo += events[event_id].auth_events
    return found


def _rejection(event: Event, events: Mapping[str, Event], rejected: set[str], create: Event) -> Rejection | None:
    # 4. Passes authorisation rules based on the event's auth events, otherwise it is rejected.
    cited = [events[event_id] for event_id in event.auth_events]
    auth: dict[StateKey, Event] = {other.key: other for other in cited}
    if not event.rules.create_cited_in_auth_events and event.key != CREATE:
        auth[CREATE] = create
    return check_auth_events(event, [(other, other.event_id in rejected) for other in cited]) or allowed(event, auth)


def _said(rejection: Rejection) -> str:
    return f"{rejection.reason} (rule {rejection.rule})"
