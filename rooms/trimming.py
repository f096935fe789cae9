"""What of a room's view stays in memory between batches: little, whatever happened in the room. The rest is loaded
again when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from immutables import Map

from annals.matrix.policy_servers import POLICY
from annals.rooms.state import RoomState, without_large_changes
from annals.rooms.view import AuthGraph, Beside, Entry, RoomView, glimpse_of

EVENTS_KEPT = 600
_CITED_KEPT = 200
_KEYS_KEPT = (("m.room.power_levels", ""), ("m.room.join_rules", ""), ("m.room.history_visibility", ""), POLICY)
#: While we are joining a room: of so many of its events what the closing of its state looks at stays in memory.
GLIMPSES_KEPT = 50_000


def trim(view: RoomView) -> RoomView:
    """The view without what it can load again: bounded, whatever happened in the room.

    Kept are the extremities, the states after them and the current one, and the events that auth checks read most.
    """
    header = view.header
    if header is None:
        return view
    if len(view.events) <= EVENTS_KEPT + len(header.parked):
        kept_auth = _kept_auth(view.auth)
        return replace(view, states=_kept_states(view), facts=Map(), auth=kept_auth, beside=_kept_beside(view))
    kept = {*header.extremities, *header.parked, header.create_event_id}
    current = view.states.get(header.current_state_id)
    for key in _KEYS_KEPT:
        kept.add(current.known.get(key) if current else None)
    recent = sorted((e for e in view.events.values() if e is not None), key=lambda e: e.position)[-EVENTS_KEPT // 2 :]
    kept.update(entry.event.event_id for entry in recent)
    # Who spoke of late will speak again, and is judged by the same events.
    cited = dict.fromkeys(event_id for entry in reversed(recent) for event_id in entry.event.auth_events)
    kept.update(islice(cited, _CITED_KEPT))
    return replace(
        view,
        events=Map({event_id: view.events[event_id] for event_id in kept if event_id and view.events.get(event_id)}),
        states=_kept_states(view),
        keys=Map(),
        facts=Map(),
        auth=_kept_auth(view.auth),
        beside=_kept_beside(view, [entry for name, entry in view.events.items() if entry and name not in kept]),
        passed={},
    )


def _kept_auth(auth: AuthGraph) -> AuthGraph:
    """What was read may be older than the tables when it is read again. The newest events may not be there yet."""
    fresh = sorted(auth.fresh.values(), key=lambda entry: entry.position)[-EVENTS_KEPT // 2 :]
    return AuthGraph(fresh=Map({entry.event.event_id: entry for entry in fresh}))


def committed(view: RoomView) -> RoomView:
    """The view once all that was decided in it is in the tables."""
    return replace(view, auth=AuthGraph(), beside=_kept_beside(view))


def _kept_beside(view: RoomView, dropped: Iterable[Entry] = ()) -> Beside:
    """While we are joining the room: what its set has so far, and a glimpse of each event that the view had (`dropped`
    are those that it has no more). All of them are looked at when the set is closed, and nobody else changes them."""
    if view.header is None or not any(handshake.holds_queue for handshake in view.header.handshakes):
        return Beside()
    beside = view.beside
    glimpses = beside.glimpses if len(beside.glimpses) <= GLIMPSES_KEPT else Map()
    room = GLIMPSES_KEPT - len(glimpses)
    seen = {entry.event.event_id: glimpse_of(entry) for entry in dropped}
    fresh = list(islice((name for name in seen if name not in glimpses), room))
    known = [name for name in seen if name in glimpses]
    return Beside(
        sets=beside.sets,
        glimpses=glimpses.update({name: seen[name] for name in (*known, *fresh)}),
        chunks=beside.chunks,
    )


def _kept_states(view: RoomView) -> Map[int, RoomState]:
    header = view.known_header()
    kept = {header.current_state_id}
    for event_id in header.extremities:
        entry = view.events.get(event_id)
        if entry is not None and entry.state_after is not None:
            kept.add(entry.state_after)
    return Map({i: without_large_changes(state) for i, state in view.states.items() if i in kept})
