"""Loading states: whole, by key, by what changed in them. A state is its line of bases, of which the nearest counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from annals.database.text import restore
from annals.projectors.rooms.found import Found, Reads, columns_of, names_of
from annals.rooms.auth_chains import Place
from annals.rooms.needs import StoredState

# Each of some states with its bases, nearest first: n of them lie between.
LINE = """line(room_id, wanted, state_id, base_id, n) AS (
    SELECT s.room_id, s.state_id, s.state_id, s.base_id, 0
    FROM (SELECT DISTINCT * FROM unnest(%s::text[], %s::bigint[]) AS u(room_id, state_id)) AS w
    JOIN states s ON s.room_id = w.room_id AND s.state_id = w.state_id
    UNION ALL
    SELECT l.room_id, l.wanted, s.state_id, s.base_id, l.n + 1
    FROM line l JOIN states s ON s.room_id = l.room_id AND s.state_id = l.base_id
)"""

# The state itself comes first, then its bases, nearest first.
_STATES = """
WITH RECURSIVE line(room_id, wanted, state_id, base_id, depth, element_sum, n) AS (
    SELECT s.room_id, s.state_id, s.state_id, s.base_id, s.depth, s.element_sum, 0
    FROM unnest(%s::text[], %s::bigint[]) AS w(room_id, state_id)
    JOIN states s ON s.room_id = w.room_id AND s.state_id = w.state_id
    UNION ALL
    SELECT l.room_id, l.wanted, s.state_id, s.base_id, s.depth, NULL::bytea, l.n + 1
    FROM line l JOIN states s ON s.room_id = l.room_id AND s.state_id = l.base_id
)
SELECT room_id, wanted, state_id, depth, element_sum FROM line ORDER BY room_id, wanted, n"""

# Of a key's entries along the line of bases, the nearest counts.
STATE_KEYS = f"""
WITH RECURSIVE {LINE}
SELECT DISTINCT ON (w.room_id, w.state_id, w.type, w.state_key)
    w.room_id, w.state_id, w.type, w.state_key, d.event_id
FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::text[]) AS w(room_id, state_id, type, state_key)
JOIN line l ON l.room_id = w.room_id AND l.wanted = w.state_id
JOIN state_deltas d ON d.room_id = w.room_id AND d.state_id = l.state_id AND d.type = w.type
    AND d.state_key = w.state_key
ORDER BY w.room_id, w.state_id, w.type, w.state_key, l.n"""

# The same with the places of what is found.
_HELD = f"""
SELECT h.*, c.chain_id, c.sequence FROM ({STATE_KEYS}) AS h
LEFT JOIN auth_chains c ON c.room_id = h.room_id AND c.event_id = h.event_id"""

_WHOLE_STATES = f"""
WITH RECURSIVE {LINE}
SELECT DISTINCT ON (l.room_id, l.wanted, d.type, d.state_key)
    l.room_id, l.wanted, d.type, d.state_key, d.event_id
FROM line l JOIN state_deltas d ON d.room_id = l.room_id AND d.state_id = l.state_id
ORDER BY l.room_id, l.wanted, d.type, d.state_key, l.n"""

_CHANGES = """
SELECT d.room_id, d.state_id, d.type, d.state_key, d.event_id
FROM unnest(%s::text[], %s::bigint[]) AS w(room_id, state_id)
JOIN state_deltas d ON d.room_id = w.room_id AND d.state_id = w.state_id"""


class StateNotStored(Exception):
    """The machine names a state that the tables do not have: they do not belong together."""


def load_states(connection: Reads, wanted: Collection[tuple[str, int]], answers: Mapping[str, Found]) -> None:
    names = names_of(room_id for room_id, _ in wanted)
    frames: dict[tuple[str, int], tuple[int, bytes]] = {}
    chains: defaultdict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for stored_room, wanted_id, state_id, depth, element_sum in connection.rows(_STATES, columns_of(wanted)):
        key = names[stored_room], wanted_id
        if state_id == wanted_id:
            frames[key] = depth, element_sum
        else:
            chains[key].append((state_id, depth))
    for key in wanted:
        if key not in frames:
            raise StateNotStored(f"state {key[1]} of {key[0]}")
        depth, element_sum = frames[key]
        answers[key[0]].states[key] = StoredState(key[1], depth, element_sum, tuple(chains.get(key, ())))


def load_state_keys(
    connection: Reads, wanted: Collection[tuple[str, int, str, str]], answers: Mapping[str, Found]
) -> None:
    for key in wanted:
        answers[key[0]].state_keys[key] = None
    states = {(room_id, state_id) for room_id, state_id, _, _ in wanted}
    names = names_of(room_id for room_id, _ in states)
    for row in connection.rows(STATE_KEYS, [*columns_of(states), *columns_of(wanted)]):
        stored_room, state_id, event_type, state_key, event_id = row
        room_id = names[stored_room]
        key = room_id, state_id, restore(event_type), restore(state_key)
        answers[room_id].state_keys[key] = event_id and restore(event_id)


def load_held(
    connection: Reads,
    wanted: Collection[tuple[str, int, str, str]],
    held: dict[tuple[str, int, str, str], str | None],
    answers: Mapping[str, Found],
) -> None:
    """What the states have for these keys, into `held`; the places of that into the answers."""
    held.update(dict.fromkeys(wanted))
    states = {(room_id, state_id) for room_id, state_id, _, _ in wanted}
    names = names_of(room_id for room_id, _ in states)
    for row in connection.rows(_HELD, [*columns_of(states), *columns_of(wanted)]):
        stored_room, state_id, event_type, state_key, event_id, chain_id, sequence = row
        room_id = names[stored_room]
        held[room_id, state_id, restore(event_type), restore(state_key)] = event_id and restore(event_id)
        if chain_id is not None:
            answers[room_id].auth_places[room_id, restore(event_id)] = Place(chain_id, sequence)


def load_whole_states(connection: Reads, wanted: Collection[tuple[str, int]], answers: Mapping[str, Found]) -> None:
    for key in wanted:
        answers[key[0]].whole_states[key] = {}
    names = names_of(room_id for room_id, _ in wanted)
    for stored_room, state_id, event_type, state_key, event_id in connection.rows(_WHOLE_STATES, columns_of(wanted)):
        if event_id is not None:
            whole = answers[names[stored_room]].whole_states[names[stored_room], state_id]
            whole[restore(event_type), restore(state_key)] = restore(event_id)


def load_changes(connection: Reads, wanted: Collection[tuple[str, int]], answers: Mapping[str, Found]) -> None:
    for key in wanted:
        answers[key[0]].changes[key] = {}
    names = names_of(room_id for room_id, _ in wanted)
    for stored_room, state_id, event_type, state_key, event_id in connection.rows(_CHANGES, columns_of(wanted)):
        changes = answers[names[stored_room]].changes[names[stored_room], state_id]
        changes[restore(event_type), restore(state_key)] = event_id and restore(event_id)
