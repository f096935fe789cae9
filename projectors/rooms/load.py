"""Loading what the room machine lacks: set-wise, one query a kind, whatever the number of rooms.

Answers come by room, each need with an entry: None (or an empty value) says that there is nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from annals.database.text import restore, storable
from annals.matrix.canonical_json import canonical_bytes, loads
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.projectors.rooms.event_json import join_event
from annals.projectors.rooms.joined_states import JOINED, JoinedStates, joined_states, parameters
from annals.rooms.ancestors import cited_ids, create_id_of
from annals.rooms.auth_chains import Citing, Place
from annals.rooms.needs import (
    CITING_CHAINS_FOLLOWED,
    CITING_CHAINS_LEVELS,
    CITING_CHAINS_PAGE,
    NEWEST_CHAIN,
    CitingChain,
    FirstOfKey,
    Loaded,
    Needs,
    StoredEvent,
    StoredHeader,
    StoredState,
)
from annals.rooms.view import PLACED
from annals.schemas.facts.rooms import RoomFact


class Reads(Protocol):
    """A snapshot, or a transaction: what the tables say at one moment."""

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a query answers."""
        ...


FactAt = Callable[[int], RoomFact]
StateKey = tuple[str, str]


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


_EVENT_COLUMNS = (
    "e.room_id, e.event_id, e.room_version, e.client_json, e.federation_json, e.verdict, e.outlier, e.backfilled, "
    "e.provisional, e.source, e.position, e.state_before, e.state_after, e.idempotency_key, e.redacted_by, e.missing"
)

_EVENTS = f"""
SELECT {_EVENT_COLUMNS} FROM unnest(%s::text[], %s::text[]) AS w(room_id, event_id)
JOIN events e ON e.room_id = w.room_id AND e.event_id = w.event_id"""

# As deep as a round may go: what a resolution reads of a chain is seldom more, and if so it asks again. With the events
# come their places.
_CHAINS = f"""
WITH RECURSIVE chain(room_id, event_id, n) AS (
    SELECT w.*, 0 FROM unnest(%s::text[], %s::text[]) AS w
    UNION
    SELECT c.room_id, a.event_id, c.n + 1 FROM chain c
    JOIN events e ON e.room_id = c.room_id AND e.event_id = c.event_id
    CROSS JOIN LATERAL unnest(e.auth_events) AS a(event_id)
    WHERE c.n < %s
)
SELECT {_EVENT_COLUMNS}, p.chain_id, p.sequence FROM (SELECT DISTINCT room_id, event_id FROM chain) c
JOIN events e ON e.room_id = c.room_id AND e.event_id = c.event_id
LEFT JOIN auth_chains p ON p.room_id = c.room_id AND p.event_id = c.event_id"""
_CHAIN_DEPTH = 16
# Of many events the chains are long and mostly known by other ways.
_FEW_EVENTS, _FEW_DEPTH, _MANY_DEPTH = 200, 8, 2

_HEADERS = """
SELECT w.room_id, r.room_version, r.create_event_id, r.current_state_id, r.min_depth, h.source,
    ARRAY(SELECT x.event_id FROM forward_extremities x WHERE x.room_id = w.room_id ORDER BY x.position, x.event_id),
    ARRAY(SELECT f.source FROM waiting_facts f WHERE f.room_id = w.room_id AND f.source >= h.source ORDER BY f.source),
    ARRAY(SELECT n.event_id FROM wanted n WHERE n.room_id = w.room_id ORDER BY n.event_id),
    ARRAY(SELECT p.redacts FROM pending_redactions p WHERE p.room_id = w.room_id ORDER BY p.position, p.redacts),
    ARRAY(SELECT p.event_id FROM pending_redactions p WHERE p.room_id = w.room_id ORDER BY p.position, p.redacts)
FROM unnest(%s::text[]) AS w(room_id)
LEFT JOIN rooms r ON r.room_id = w.room_id
LEFT JOIN halted_rooms h ON h.room_id = w.room_id"""

_PARKED = f"""
SELECT {_EVENT_COLUMNS} FROM events e
WHERE e.room_id = ANY(%s) AND e.verdict = 'parked' ORDER BY e.source"""

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
_STATE_KEYS = """
WITH RECURSIVE line(room_id, wanted, state_id, base_id, n) AS (
    SELECT s.room_id, s.state_id, s.state_id, s.base_id, 0
    FROM (SELECT DISTINCT * FROM unnest(%s::text[], %s::bigint[]) AS u(room_id, state_id)) AS w
    JOIN states s ON s.room_id = w.room_id AND s.state_id = w.state_id
    UNION ALL
    SELECT l.room_id, l.wanted, s.state_id, s.base_id, l.n + 1
    FROM line l JOIN states s ON s.room_id = l.room_id AND s.state_id = l.base_id
)
SELECT DISTINCT ON (w.room_id, w.state_id, w.type, w.state_key)
    w.room_id, w.state_id, w.type, w.state_key, d.event_id
FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::text[]) AS w(room_id, state_id, type, state_key)
JOIN line l ON l.room_id = w.room_id AND l.wanted = w.state_id
JOIN state_deltas d ON d.room_id = w.room_id AND d.state_id = l.state_id AND d.type = w.type
    AND d.state_key = w.state_key
ORDER BY w.room_id, w.state_id, w.type, w.state_key, l.n"""

_WHOLE_STATES = """
WITH RECURSIVE line(room_id, wanted, state_id, base_id, n) AS (
    SELECT s.room_id, s.state_id, s.state_id, s.base_id, 0
    FROM unnest(%s::text[], %s::bigint[]) AS w(room_id, state_id)
    JOIN states s ON s.room_id = w.room_id AND s.state_id = w.state_id
    UNION ALL
    SELECT l.room_id, l.wanted, s.state_id, s.base_id, l.n + 1
    FROM line l JOIN states s ON s.room_id = l.room_id AND s.state_id = l.base_id
)
SELECT DISTINCT ON (l.room_id, l.wanted, d.type, d.state_key)
    l.room_id, l.wanted, d.type, d.state_key, d.event_id
FROM line l JOIN state_deltas d ON d.room_id = l.room_id AND d.state_id = l.state_id
ORDER BY l.room_id, l.wanted, d.type, d.state_key, l.n"""

_CHANGES = """
SELECT d.room_id, d.state_id, d.type, d.state_key, d.event_id
FROM unnest(%s::text[], %s::bigint[]) AS w(room_id, state_id)
JOIN state_deltas d ON d.room_id = w.room_id AND d.state_id = w.state_id"""

_KEYS = """
SELECT e.room_id, e.idempotency_key, e.source, e.event_id
FROM unnest(%s::text[], %s::text[]) AS w(room_id, idempotency_key)
JOIN events e ON e.room_id = w.room_id AND e.idempotency_key = w.idempotency_key
ORDER BY e.source DESC"""

_PLACES = """
SELECT c.room_id, c.event_id, c.chain_id, c.sequence FROM unnest(%s::text[], %s::text[]) AS w(room_id, event_id)
JOIN auth_chains c ON c.room_id = w.room_id AND c.event_id = w.event_id"""

# The same with the places of what is found.
_HELD = f"""
SELECT h.*, c.chain_id, c.sequence FROM ({_STATE_KEYS}) AS h
LEFT JOIN auth_chains c ON c.room_id = h.room_id AND c.event_id = h.event_id"""


# The newest chains first: these link to what is newest. With each comes what the state has for its key, and the place
# of that.
def _page_of(chain: str, sequence: str, before: str) -> str:
    return f"""LATERAL (
    SELECT coalesce(jsonb_agg(
        jsonb_build_array(x.chain_id, y.sequence, p.type, p.state_key, h.event_id, c.chain_id, c.sequence)
        ORDER BY x.chain_id DESC), '[]') AS chains,
        count(*) FILTER (WHERE c.chain_id = x.chain_id AND c.sequence >= y.sequence) AS held
    FROM (
        SELECT DISTINCT n.chain_id FROM (
            SELECT l.chain_id FROM auth_chain_links l
            WHERE l.room_id = w.room_id AND l.to_chain_id = {chain} AND l.chain_id < {before}
                AND l.to_sequence >= {sequence}
            ORDER BY l.chain_id DESC, l.sequence DESC LIMIT {CITING_CHAINS_PAGE}
        ) AS n
    ) AS x
    CROSS JOIN LATERAL (
        SELECT l.sequence FROM auth_chain_links l
        WHERE l.room_id = w.room_id AND l.to_chain_id = {chain} AND l.chain_id = x.chain_id
            AND l.to_sequence >= {sequence}
        ORDER BY l.sequence LIMIT 1
    ) AS y
    JOIN auth_chains p ON p.room_id = w.room_id AND p.chain_id = x.chain_id AND p.sequence = y.sequence
    LEFT JOIN LATERAL (
        SELECT d.event_id FROM line l
        JOIN state_deltas d ON d.room_id = l.room_id AND d.state_id = l.state_id AND d.type = p.type
            AND d.state_key = p.state_key
        WHERE l.room_id = w.room_id AND l.wanted = w.state_id ORDER BY l.n LIMIT 1
    ) AS h ON true
    LEFT JOIN auth_chains c ON c.room_id = w.room_id AND c.event_id = h.event_id
)"""


# Where few of a page have what the state has, the next page and the first ones of some of its chains come along:
# they are asked next.
_CITING_CHAINS = f"""
WITH RECURSIVE line(room_id, wanted, state_id, base_id, n) AS (
    SELECT s.room_id, s.state_id, s.state_id, s.base_id, 0
    FROM (SELECT DISTINCT * FROM unnest(%s::text[], %s::bigint[]) AS u(room_id, state_id)) AS w
    JOIN states s ON s.room_id = w.room_id AND s.state_id = w.state_id
    UNION ALL
    SELECT l.room_id, l.wanted, s.state_id, s.base_id, l.n + 1
    FROM line l JOIN states s ON s.room_id = l.room_id AND s.state_id = l.base_id
), page AS (
    SELECT w.*, p.chains, p.held, 0 AS level
    FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
        AS w(room_id, chain_id, sequence, before, state_id)
    CROSS JOIN {_page_of("w.chain_id", "w.sequence", "w.before")} AS p
    UNION ALL
    SELECT w.room_id, a.chain_id, a.sequence, a.before, w.state_id, p.chains, p.held, w.level + 1
    FROM page w
    CROSS JOIN LATERAL (
        (SELECT (e.of->>0)::bigint AS chain_id, (e.of->>1)::bigint AS sequence, {NEWEST_CHAIN} AS before
        FROM jsonb_array_elements(w.chains) AS e(of) LIMIT {CITING_CHAINS_FOLLOWED})
        UNION ALL
        SELECT w.chain_id, w.sequence, (w.chains->-1->>0)::bigint WHERE w.chains <> '[]'
    ) AS a
    CROSS JOIN {_page_of("a.chain_id", "a.sequence", "a.before")} AS p
    WHERE w.held <= {CITING_CHAINS_FOLLOWED} AND w.level < {CITING_CHAINS_LEVELS}
)
SELECT room_id, chain_id, sequence, before, state_id, chains FROM page"""

# Of a room that has no index at all: everything that has a place once it has one.
_CITED = f"""
WITH wanted(room_id, event_id) AS (SELECT * FROM unnest(%s::text[], %s::text[]))
SELECT e.room_id, e.event_id, e.room_version, e.type, e.state_key, e.auth_events, e.position, c.chain_id, c.sequence,
    EXISTS (SELECT FROM auth_chains x
            WHERE x.room_id = c.room_id AND x.chain_id = c.chain_id AND x.sequence = c.sequence + 1)
FROM wanted w JOIN auth_chains c ON c.room_id = w.room_id AND c.event_id = w.event_id
JOIN events e ON e.room_id = c.room_id AND e.event_id = c.event_id
UNION ALL
SELECT e.room_id, e.event_id, e.room_version, e.type, e.state_key, e.auth_events, e.position, NULL, NULL, false
FROM (SELECT DISTINCT room_id FROM wanted) AS r JOIN events e ON e.room_id = r.room_id
WHERE NOT EXISTS (SELECT FROM auth_chains x WHERE x.room_id = r.room_id)
    AND e.state_key IS NOT NULL AND e.verdict IN ({_quoted(PLACED)})"""


@dataclass(frozen=True, slots=True)
class _Answers:
    """A `Loaded` of one room, as it fills."""

    rooms: dict[str, StoredHeader | None] = field(default_factory=dict)
    events: dict[tuple[str, str], StoredEvent | None] = field(default_factory=dict)
    states: dict[tuple[str, int], StoredState] = field(default_factory=dict)
    state_keys: dict[tuple[str, int, str, str], str | None] = field(default_factory=dict)
    whole_states: dict[tuple[str, int], dict[StateKey, str]] = field(default_factory=dict)
    changes: dict[tuple[str, int], dict[StateKey, str | None]] = field(default_factory=dict)
    keys: dict[tuple[str, str], FirstOfKey | None] = field(default_factory=dict)
    facts: dict[tuple[str, int], RoomFact] = field(default_factory=dict)
    auth_places: dict[tuple[str, str], Place | None] = field(default_factory=dict)
    citing_chains: dict[tuple[str, int, int, int, int], list[CitingChain]] = field(default_factory=dict)
    cited: dict[tuple[str, str], Citing] = field(default_factory=dict)

    def loaded(self) -> Loaded:
        return Loaded(**{name: getattr(self, name) for name in self.__slots__})


class StateNotStored(Exception):
    """The machine names a state that the tables do not have: they do not belong together."""


def load(connection: Reads, needs: Needs, fact_at: FactAt | None = None) -> Mapping[str, Loaded]:
    """The answers to `needs`, by room. `fact_at` reads a fact of the partition from the log."""
    answers: defaultdict[str, _Answers] = defaultdict(_Answers)
    if needs.rooms:
        _load_headers(connection, list(needs.rooms), answers)
    if needs.resolutions:
        _load_resolutions(connection, sorted(needs.resolutions), answers)
    if needs.events:
        _load_events(connection, needs.events, answers)
    if needs.auth_chains:
        _load_chains(connection, needs.auth_chains, _CHAIN_DEPTH, answers)
    if needs.states:
        _load_states(connection, needs.states, answers)
    if needs.state_keys:
        _load_state_keys(connection, needs.state_keys, answers)
    if needs.whole_states:
        _load_whole_states(connection, needs.whole_states, answers)
    if needs.changes:
        _load_changes(connection, needs.changes, answers)
    if needs.keys:
        _load_keys(connection, needs.keys, answers)
    if needs.auth_places:
        _load_places(connection, needs.auth_places, answers)
    if needs.citing_chains:
        _load_citing_chains(connection, needs.citing_chains, answers)
    if needs.cited:
        _load_cited(connection, needs.cited, answers)
    for room_id, offset in needs.facts:
        if fact_at is None:
            raise ValueError("facts are wanted, but nothing reads the log")
        answers[room_id].facts[room_id, offset] = fact_at(offset)
    return {room_id: of_room.loaded() for room_id, of_room in answers.items()}


def _columns(wanted: Collection[tuple[Any, ...]]) -> list[list[Any]]:
    """Tuples as one list a column, in an order that does not change from run to run."""
    return [list(column) for column in zip(*sorted(wanted), strict=True)]


# Keys come back as they are stored: answers are given under the names that were asked for.
def _names(texts: Iterable[str]) -> dict[str, str]:
    return {storable(text): text for text in texts}


def _load_headers(connection: Reads, room_ids: list[str], answers: Mapping[str, _Answers]) -> None:
    names = _names(room_ids)
    parked: defaultdict[str, list[StoredEvent]] = defaultdict(list)
    for row in connection.rows(_PARKED, (sorted(room_ids),)):
        parked[row[0]].append(stored_event(row))
    for row in connection.rows(_HEADERS, (sorted(room_ids),)):
        header = _header(row, tuple(parked.get(row[0], ())))
        answers[names[row[0]]].rooms[names[row[0]]] = header


def _header(row: tuple[Any, ...], parked: tuple[StoredEvent, ...]) -> StoredHeader | None:
    room_id, version, create_event_id, state_id, min_depth, halted_at, extremities, waiting, wanted, *pending = row
    if version is None and halted_at is None and not parked and not wanted:
        return None
    redactions: dict[str, tuple[str, ...]] = {}
    for redacts, event_id in zip(*pending, strict=True):
        redactions[restore(redacts)] = (*redactions.get(restore(redacts), ()), restore(event_id))
    return StoredHeader(
        room_id=restore(room_id),
        room_version=version or "",
        create_event_id=create_event_id and restore(create_event_id),
        extremities=tuple(map(restore, extremities)),
        current_state_id=state_id,
        min_depth=min_depth,
        halted_at=halted_at,
        waiting=tuple(waiting),
        parked=parked,
        wanted=frozenset(map(restore, wanted)),
        pending_redactions=redactions,
    )


def _load_events(connection: Reads, wanted: Collection[tuple[str, str]], answers: Mapping[str, _Answers]) -> None:
    for room_id, event_id in wanted:
        answers[room_id].events[room_id, event_id] = None
    for row in connection.rows(_EVENTS, _columns(wanted)):
        event = stored_event(row)
        answers[event.room_id].events[event.room_id, event.event_id] = event


def _load_chains(
    connection: Reads, wanted: Collection[tuple[str, str]], depth: int, answers: Mapping[str, _Answers]
) -> list[StoredEvent]:
    found = []
    for room_id, event_id in wanted:
        answers[room_id].events[room_id, event_id] = None
    for *row, chain_id, sequence in connection.rows(_CHAINS, [*_columns(wanted), depth]):
        event = stored_event(tuple(row))
        found.append(event)
        answers[event.room_id].events[event.room_id, event.event_id] = event
        if chain_id is not None:
            answers[event.room_id].auth_places[event.room_id, event.event_id] = Place(chain_id, sequence)
    return found


def _load_resolutions(
    connection: Reads, wanted: Sequence[tuple[str, tuple[int, ...]]], answers: Mapping[str, _Answers]
) -> None:
    """Three queries: what differs; these events and what they cite; what all agree on for the keys of these."""
    conflicted: set[tuple[str, str]] = set()
    resolutions = joined_states(wanted, connection.rows(JOINED, parameters(wanted)))
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
        differing = {event_id for column in columns if len(column) > 1 for event_id in column}
        conflicted.update((room_id, event_id) for event_id in differing if event_id is not None)
    if conflicted:
        # From version 12 on no event cites the create event; in other rooms this is the id of nothing.
        conflicted |= {(room_id, create_id_of(room_id)) for room_id, _ in conflicted}
        depth = _FEW_DEPTH if len(conflicted) <= _FEW_EVENTS else _MANY_DEPTH
        _load_agreed(connection, resolutions, _load_chains(connection, conflicted, depth, answers), answers)


def _load_agreed(
    connection: Reads,
    resolutions: Iterable[JoinedStates],
    events: Iterable[StoredEvent],
    answers: Mapping[str, _Answers],
) -> None:
    keys: defaultdict[str, set[StateKey]] = defaultdict(set)
    for event in events:
        pdu = loads(event.pdu)
        if isinstance(pdu, dict) and "state_key" in pdu:
            keys[event.room_id].add((pdu["type"], pdu["state_key"]))
    wanted = {
        (joined.room_id, joined.state_ids[0], *key): joined
        for joined in resolutions
        for key in keys[joined.room_id]
        if (joined.room_id, joined.state_ids[0], *key) not in answers[joined.room_id].state_keys
    }
    if not wanted:
        return
    of_first: dict[tuple[str, int, str, str], str | None] = {}
    _load_held(connection, wanted.keys(), of_first, answers)
    for need, event_id in of_first.items():
        # None of the states changed the key: all have the same.
        for state_id in wanted[need].state_ids:
            answers[need[0]].state_keys[need[0], state_id, *need[2:]] = event_id


def stored_event(row: tuple[Any, ...]) -> StoredEvent:
    """The event of a row of `_EVENT_COLUMNS`."""
    room_id, event_id, version, client_json, federation_json, verdict, outlier, backfilled, provisional = row[:9]
    source, position, before, after, key, redacted_by, missing = row[9:]
    return StoredEvent(
        room_id=restore(room_id),
        event_id=restore(event_id),
        room_version=version,
        pdu=canonical_bytes(join_event(client_json, federation_json, ROOM_VERSIONS[version])),
        verdict=verdict,
        outlier=outlier,
        backfilled=backfilled,
        provisional=provisional,
        source=source,
        position=position,
        state_before=before,
        state_after=after,
        idempotency_key=key and restore(key),
        redacted_by=redacted_by and restore(redacted_by),
        missing=tuple(map(restore, missing or ())),
    )


def _load_states(connection: Reads, wanted: Collection[tuple[str, int]], answers: Mapping[str, _Answers]) -> None:
    names = _names(room_id for room_id, _ in wanted)
    frames: dict[tuple[str, int], tuple[int, bytes]] = {}
    chains: defaultdict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for stored_room, wanted_id, state_id, depth, element_sum in connection.rows(_STATES, _columns(wanted)):
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


def _load_state_keys(
    connection: Reads, wanted: Collection[tuple[str, int, str, str]], answers: Mapping[str, _Answers]
) -> None:
    for key in wanted:
        answers[key[0]].state_keys[key] = None
    states = {(room_id, state_id) for room_id, state_id, _, _ in wanted}
    names = _names(room_id for room_id, _ in states)
    for row in connection.rows(_STATE_KEYS, [*_columns(states), *_columns(wanted)]):
        stored_room, state_id, event_type, state_key, event_id = row
        room_id = names[stored_room]
        key = room_id, state_id, restore(event_type), restore(state_key)
        answers[room_id].state_keys[key] = event_id and restore(event_id)


def _load_held(
    connection: Reads,
    wanted: Collection[tuple[str, int, str, str]],
    held: dict[tuple[str, int, str, str], str | None],
    answers: Mapping[str, _Answers],
) -> None:
    """What the states have for these keys, into `held`; the places of that into the answers."""
    held.update(dict.fromkeys(wanted))
    states = {(room_id, state_id) for room_id, state_id, _, _ in wanted}
    names = _names(room_id for room_id, _ in states)
    for row in connection.rows(_HELD, [*_columns(states), *_columns(wanted)]):
        stored_room, state_id, event_type, state_key, event_id, chain_id, sequence = row
        room_id = names[stored_room]
        held[room_id, state_id, restore(event_type), restore(state_key)] = event_id and restore(event_id)
        if chain_id is not None:
            answers[room_id].auth_places[room_id, restore(event_id)] = Place(chain_id, sequence)


def _load_whole_states(connection: Reads, wanted: Collection[tuple[str, int]], answers: Mapping[str, _Answers]) -> None:
    for key in wanted:
        answers[key[0]].whole_states[key] = {}
    names = _names(room_id for room_id, _ in wanted)
    for stored_room, state_id, event_type, state_key, event_id in connection.rows(_WHOLE_STATES, _columns(wanted)):
        if event_id is not None:
            whole = answers[names[stored_room]].whole_states[names[stored_room], state_id]
            whole[restore(event_type), restore(state_key)] = restore(event_id)


def _load_changes(connection: Reads, wanted: Collection[tuple[str, int]], answers: Mapping[str, _Answers]) -> None:
    for key in wanted:
        answers[key[0]].changes[key] = {}
    names = _names(room_id for room_id, _ in wanted)
    for stored_room, state_id, event_type, state_key, event_id in connection.rows(_CHANGES, _columns(wanted)):
        changes = answers[names[stored_room]].changes[names[stored_room], state_id]
        changes[restore(event_type), restore(state_key)] = event_id and restore(event_id)


def _load_keys(connection: Reads, wanted: Collection[tuple[str, str]], answers: Mapping[str, _Answers]) -> None:
    for room_id, key in wanted:
        answers[room_id].keys[room_id, key] = None
    names = _names(text for pair in wanted for text in pair)
    # The first one comes last, and stays.
    for stored_room, stored_key, source, event_id in connection.rows(_KEYS, _columns(wanted)):
        room_id, key = names[stored_room], names[stored_key]
        answers[room_id].keys[room_id, key] = FirstOfKey(source, restore(event_id))


def _load_places(connection: Reads, wanted: Collection[tuple[str, str]], answers: Mapping[str, _Answers]) -> None:
    for room_id, event_id in wanted:
        answers[room_id].auth_places[room_id, event_id] = None
    names = _names(text for pair in wanted for text in pair)
    for stored_room, stored_event_id, chain_id, sequence in connection.rows(_PLACES, _columns(wanted)):
        room_id, event_id = names[stored_room], names[stored_event_id]
        answers[room_id].auth_places[room_id, event_id] = Place(chain_id, sequence)


def _load_citing_chains(
    connection: Reads, wanted: Collection[tuple[str, int, int, int, int]], answers: Mapping[str, _Answers]
) -> None:
    for page in wanted:
        answers[page[0]].citing_chains[page] = []
    names = _names(room_id for room_id, *_ in wanted)
    states = {(room_id, state_id) for room_id, *_, state_id in wanted}
    for row in connection.rows(_CITING_CHAINS, [*_columns(states), *_columns(wanted)]):
        stored_room, to_chain, to_sequence, before, state_id, chains = row
        room_id = names[stored_room]
        of_room, found = answers[room_id], []
        for chain_id, sequence, event_type, state_key, holder, place_chain, place_sequence in chains:
            key = None if state_key is None else restore(state_key)
            found.append(CitingChain(chain_id, sequence, restore(event_type), key))
            if key is None:
                continue
            of_room.state_keys[room_id, state_id, restore(event_type), key] = holder and restore(holder)
            if place_chain is not None:
                of_room.auth_places[room_id, restore(holder)] = Place(place_chain, place_sequence)
        of_room.citing_chains[room_id, to_chain, to_sequence, before, state_id] = found


def _load_cited(connection: Reads, wanted: Collection[tuple[str, str]], answers: Mapping[str, _Answers]) -> None:
    for row in connection.rows(_CITED, _columns(wanted)):
        room_id, event_id, version, event_type, state_key, auth_events, position, chain_id, sequence, extended = row
        room, name, event_type = restore(room_id), restore(event_id), restore(event_type)
        auth_ids = tuple(map(restore, auth_events))
        answers[room].cited[room, name] = Citing(
            event_id=name,
            key=(event_type, None if state_key is None else restore(state_key)),
            cited=cited_ids(room, name, event_type, auth_ids, ROOM_VERSIONS[version]),
            position=position,
            place=None if chain_id is None else Place(chain_id, sequence),
            extended=extended,
        )
