"""Loading auth chains: events with what they cite, and the chain cover that saves walking them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from annals.database.text import restore
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.projectors.rooms.found import Found, Reads, columns_of, names_of
from annals.projectors.rooms.load_events import EVENT_COLUMNS, stored_event
from annals.projectors.rooms.load_states import LINE
from annals.rooms.ancestors import cited_ids
from annals.rooms.auth_chains import Citing, Place
from annals.rooms.needs import (
    CITING_CHAINS_FOLLOWED,
    CITING_CHAINS_LEVELS,
    CITING_CHAINS_PAGE,
    NEWEST_CHAIN,
    CitingChain,
    StoredEvent,
)
from annals.rooms.out_of_band import OUT_OF_BAND
from annals.rooms.view import PLACED


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


# With the events come their places.
_CHAINS = f"""
WITH RECURSIVE chain(room_id, event_id, n) AS (
    SELECT w.*, 0 FROM unnest(%s::text[], %s::text[]) AS w
    UNION
    SELECT c.room_id, a.event_id, c.n + 1 FROM chain c
    JOIN events e ON e.room_id = c.room_id AND e.event_id = c.event_id
    CROSS JOIN LATERAL unnest(e.auth_events) AS a(event_id)
    WHERE c.n < %s
)
SELECT {EVENT_COLUMNS}, p.chain_id, p.sequence FROM (SELECT DISTINCT room_id, event_id FROM chain) c
JOIN events e ON e.room_id = c.room_id AND e.event_id = c.event_id
LEFT JOIN auth_chains p ON p.room_id = c.room_id AND p.event_id = c.event_id"""

_PLACES = """
SELECT c.room_id, c.event_id, c.chain_id, c.sequence FROM unnest(%s::text[], %s::text[]) AS w(room_id, event_id)
JOIN auth_chains c ON c.room_id = w.room_id AND c.event_id = w.event_id"""


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
WITH RECURSIVE {LINE}, page AS (
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
    AND e.state_key IS NOT NULL AND e.verdict IN ({_quoted(PLACED)})
    AND e.reason IS DISTINCT FROM '{OUT_OF_BAND}'"""


def load_chains(
    connection: Reads, wanted: Collection[tuple[str, str]], depth: int, answers: Mapping[str, Found]
) -> list[StoredEvent]:
    found = []
    for room_id, event_id in wanted:
        answers[room_id].events[room_id, event_id] = None
    for *row, chain_id, sequence in connection.rows(_CHAINS, [*columns_of(wanted), depth]):
        event = stored_event(tuple(row))
        found.append(event)
        answers[event.room_id].events[event.room_id, event.event_id] = event
        if chain_id is not None:
            answers[event.room_id].auth_places[event.room_id, event.event_id] = Place(chain_id, sequence)
    return found


def load_places(connection: Reads, wanted: Collection[tuple[str, str]], answers: Mapping[str, Found]) -> None:
    for room_id, event_id in wanted:
        answers[room_id].auth_places[room_id, event_id] = None
    names = names_of(text for pair in wanted for text in pair)
    for stored_room, stored_event_id, chain_id, sequence in connection.rows(_PLACES, columns_of(wanted)):
        room_id, event_id = names[stored_room], names[stored_event_id]
        answers[room_id].auth_places[room_id, event_id] = Place(chain_id, sequence)


def load_citing_chains(
    connection: Reads, wanted: Collection[tuple[str, int, int, int, int]], answers: Mapping[str, Found]
) -> None:
    for page in wanted:
        answers[page[0]].citing_chains[page] = []
    names = names_of(room_id for room_id, *_ in wanted)
    states = {(room_id, state_id) for room_id, *_, state_id in wanted}
    for row in connection.rows(_CITING_CHAINS, [*columns_of(states), *columns_of(wanted)]):
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


def load_cited(connection: Reads, wanted: Collection[tuple[str, str]], answers: Mapping[str, Found]) -> None:
    for row in connection.rows(_CITED, columns_of(wanted)):
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
