"""One round of needs for all that nearly every PDU needs, instead of one each.

Nothing here decides anything: what is not asked for at once is asked for later, a round each.
"""

from __future__ import annotations

from collections.abc import Iterable

from annals.matrix.auth_events import CREATE, auth_types_for
from annals.matrix.events import Event, StateKey
from annals.matrix.policy_servers import POLICY
from annals.rooms.ancestors import permitting_ids
from annals.rooms.needs import Needs
from annals.rooms.resolving import resolution_of
from annals.rooms.state import EMPTY_STATE_ID
from annals.rooms.view import RoomView
from annals.schemas.facts.rooms import PduFact


def needs_of(view: RoomView, fact: PduFact, event: Event, outlier: bool) -> Needs:
    """What the view lacks to judge this event, as far as that can be told."""
    of_events = needs_of_events(view, fact, event)
    # Of an event that is here most arrivals are repeats, which read no state.
    return of_events if outlier or view.events.get(fact.event_id) else of_events | _needs_of_states(view, event)


def needs_of_events(view: RoomView, fact: PduFact, event: Event) -> Needs:
    """The event itself, what it refers to, and who has its idempotency key."""
    events, key = view.events, fact.envelope.idempotency_key
    event_ids = [fact.event_id, *event.prev_events, *permitting_ids(event)]
    if event.redacts is not None:
        event_ids.append(event.redacts)
    unknown = [event_id for event_id in event_ids if event_id not in events]
    return Needs(
        events=frozenset((view.room_id, event_id) for event_id in unknown),
        keys=frozenset([(view.room_id, key)]) if key is not None and key not in view.keys else frozenset(),
    )


def _needs_of_states(view: RoomView, event: Event) -> Needs:
    """What judging will read of the current state and of those after the prev_events, as far as these are known.

    In a room of several heads, theirs too.
    """
    room_id = view.room_id
    extremities = view.known_header().extremities
    heads = [event_id for event_id in extremities if event_id not in view.events] if len(extremities) > 1 else []
    unloaded: list[tuple[str, int]] = []
    unknown: list[tuple[str, int, str, str]] = []
    keys = _keys_read(event)
    for state_id in _states_read(view, event):
        state = view.states.get(state_id)
        if state_id == view.known_header().current_state_id and (state is None or state.lacks(POLICY)):
            unknown.append((room_id, state.stored_id if state else state_id, *POLICY))
        if state is None:
            unloaded.append((room_id, state_id))
            unknown += [(room_id, state_id, *key) for key in keys]
        elif not state.complete:
            unknown += [(room_id, state.stored_id, *key) for key in keys if key not in state.known]
    joined = _states_joined(view, event)
    resolutions = resolution_of(view, joined) if any(i not in view.states for i in joined) else frozenset()
    return Needs(
        states=frozenset(unloaded),
        state_keys=frozenset(unknown),
        events=frozenset((room_id, event_id) for event_id in heads),
        resolutions=resolutions,
    )


def _states_read(view: RoomView, event: Event) -> set[int]:
    return {view.known_header().current_state_id, *_states_after(view, event.prev_events)} - {EMPTY_STATE_ID}


def _states_joined(view: RoomView, event: Event) -> set[int]:
    """The states that will be resolved: those before the event, and with the heads that it does not follow.

    What follows all heads follows the current state.
    """
    others = set(view.known_header().extremities).difference(event.prev_events)
    if not others and len(event.prev_events) > 1:
        return set()
    joined = _states_after(view, {*event.prev_events, *others}) - {EMPTY_STATE_ID}
    return joined if len(joined) > 1 else set()


def _states_after(view: RoomView, event_ids: Iterable[str]) -> set[int]:
    """Those that are known."""
    entries = [view.events.get(event_id) for event_id in event_ids]
    return {entry.state_after for entry in entries if entry is not None and entry.state_after is not None}


def _keys_read(event: Event) -> list[StateKey]:
    own = [event.key] if event.is_state else []
    return [CREATE, *own, *auth_types_for(event.type, event.sender, event.state_key, event.content, event.rules)]
