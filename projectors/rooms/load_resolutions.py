"""Loading what a resolution reads: what differs, what these events cite, what all agree on for the keys of these."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from annals.matrix.auth_events import POWER_LEVELS
from annals.matrix.canonical_json import loads
from annals.matrix.room_versions import ROOM_VERSIONS, StateResolution
from annals.projectors.rooms.found import Found, Reads, StateKey
from annals.projectors.rooms.joined_states import JOINED, JoinedStates, joined_states, parameters
from annals.projectors.rooms.load_auth_chains import load_chains
from annals.projectors.rooms.load_auth_paths import load_between, load_mainlines
from annals.projectors.rooms.load_states import load_held
from annals.rooms.ancestors import create_id_of
from annals.rooms.auth_paths import highest, lowest
from annals.rooms.needs import Places, StoredEvent, StoredState

# Of many events the chains are long and mostly known by other ways.
_FEW_EVENTS, _FEW_DEPTH, _MANY_DEPTH = 200, 8, 2


Keyed = list[tuple[StoredEvent, StateKey]]


def load_resolutions(
    connection: Reads, wanted: Sequence[tuple[str, tuple[int, ...]]], answers: Mapping[str, Found]
) -> None:
    """What differs; these events and what they cite; what all agree on for the keys of these; what stands between these
    events, where the room's version asks for that; where the mainlines of power levels go on."""
    conflicted: set[tuple[str, str]] = set()
    resolutions = joined_states(wanted, connection.rows(JOINED, parameters(wanted)))
    parts: list[tuple[str, set[str]]] = []
    for joined in resolutions:
        room_id, of_room = joined.room_id, answers[joined.room_id]
        for state_id in joined.state_ids:
            (_, depth, element_sum), *bases = joined.lines[state_id]
            chain = tuple((base_id, base_depth) for base_id, base_depth, _ in bases)
            of_room.states[room_id, state_id] = StoredState(state_id, depth, element_sum, chain)
            of_room.changes.update({(room_id, own): joined.changes[own] for own in joined.own(state_id)})
        held = joined.held()
        for state_id, entries in held.items():
            of_room.state_keys.update({(room_id, state_id, *key): event_id for key, event_id in entries.items()})
        columns = ({held[state_id][key] for state_id in held} for key in next(iter(held.values())))
        differing = {event_id for column in columns if len(column) > 1 for event_id in column if event_id is not None}
        parts.append((room_id, differing))
        conflicted.update((room_id, event_id) for event_id in differing)
    if conflicted:
        # From version 12 on no event cites the create event; in other rooms this is the id of nothing.
        conflicted |= {(room_id, create_id_of(room_id)) for room_id, _ in conflicted}
        depth = _FEW_DEPTH if len(conflicted) <= _FEW_EVENTS else _MANY_DEPTH
        events = _keyed(load_chains(connection, conflicted, depth, answers))
        load_agreed(connection, resolutions, events, answers)
        _load_between(connection, parts, events, answers)
        _load_mainlines(connection, events, answers)


def _keyed(events: Iterable[StoredEvent]) -> Keyed:
    """The state events among these."""
    keyed: Keyed = []
    for event in events:
        pdu = loads(event.pdu)
        if isinstance(pdu, dict) and "state_key" in pdu:
            keyed.append((event, (pdu["type"], pdu["state_key"])))
    return keyed


def _load_between(
    connection: Reads, parts: Iterable[tuple[str, set[str]]], events: Keyed, answers: Mapping[str, Found]
) -> None:
    of_paths = {event.room_id for event, _ in events if _rule(event) is StateResolution.V2_1}
    wanted: set[tuple[str, Places, Places]] = set()
    for room_id, differing in parts:
        found = answers[room_id].auth_places
        places = [place for event_id in differing if (place := found.get((room_id, event_id))) is not None]
        if room_id in of_paths and places and len(places) == len(differing):
            wanted.add((room_id, highest(places), lowest(places)))
    if wanted:
        load_between(connection, wanted, answers)


def _load_mainlines(connection: Reads, events: Keyed, answers: Mapping[str, Found]) -> None:
    levels = [
        (e.room_id, e.event_id) for e, key in events if key == POWER_LEVELS and _rule(e) is not StateResolution.V1
    ]
    places = {name: answers[name[0]].auth_places.get(name) for name in levels}
    chains = {(name[0], place.chain_id) for name, place in places.items() if place is not None}
    if chains:
        load_mainlines(connection, chains, answers)


def _rule(event: StoredEvent) -> StateResolution:
    return ROOM_VERSIONS[event.room_version].state_resolution


def load_agreed(
    connection: Reads, resolutions: Iterable[JoinedStates], events: Keyed, answers: Mapping[str, Found]
) -> None:
    keys: defaultdict[str, set[StateKey]] = defaultdict(set)
    for event, key in events:
        keys[event.room_id].add(key)
    wanted = {
        (joined.room_id, joined.state_ids[0], *key): joined
        for joined in resolutions
        for key in keys[joined.room_id]
        if (joined.room_id, joined.state_ids[0], *key) not in answers[joined.room_id].state_keys
    }
    if not wanted:
        return
    of_first: dict[tuple[str, int, str, str], str | None] = {}
    load_held(connection, wanted.keys(), of_first, answers)
    for need, event_id in of_first.items():
        # None of the states changed the key: all have the same.
        for state_id in wanted[need].state_ids:
            answers[need[0]].state_keys[need[0], state_id, *need[2:]] = event_id
