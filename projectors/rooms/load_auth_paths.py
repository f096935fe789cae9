"""Loading what stands between events in the auth graph, and where mainlines go on: by ranges of chains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from annals.database.text import restore
from annals.projectors.rooms.found import Found, Reads, columns_of, names_of
from annals.projectors.rooms.load_auth_chains import load_chains
from annals.rooms.auth_chains import Place
from annals.rooms.auth_paths import Below
from annals.rooms.needs import ChainsBelow, Link, Places, Range

# So many come along. Of more, who asks may have most, of another resolution, and asks for the others.
_ALONG_MAX = 200

_LINKS = """
SELECT w.number, l.chain_id, l.sequence, l.to_chain_id, l.to_sequence
FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[])
    AS w(number, room_id, chain_id, above, top)
JOIN auth_chain_links l ON l.room_id = w.room_id AND l.chain_id = w.chain_id
    AND l.sequence > w.above AND l.sequence <= w.top"""

_RANGES = """
SELECT w.number, p.event_id, p.chain_id, p.sequence
FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[])
    AS w(number, room_id, chain_id, low, high)
JOIN auth_chains p ON p.room_id = w.room_id AND p.chain_id = w.chain_id AND p.sequence BETWEEN w.low AND w.high"""


# Where the mainline of a chain of power levels goes on: what its first event cites.
def _below(chain: str) -> str:
    return f"""LATERAL (
    SELECT p.chain_id, p.sequence FROM auth_chains f
    JOIN events e ON e.room_id = f.room_id AND e.event_id = f.event_id
    CROSS JOIN LATERAL unnest(e.auth_events) AS a(event_id)
    JOIN auth_chains p ON p.room_id = f.room_id AND p.event_id = a.event_id
    WHERE f.room_id = r.room_id AND f.chain_id = {chain} AND f.sequence = 1
        AND p.type = 'm.room.power_levels' AND p.state_key = ''
    LIMIT 1
)"""


_MAINLINES = f"""
WITH RECURSIVE run(room_id, chain_id, below_id, below_sequence) AS (
    SELECT r.room_id, r.chain_id, b.* FROM unnest(%s::text[], %s::bigint[]) AS r(room_id, chain_id)
    LEFT JOIN {_below("r.chain_id")} AS b ON true
    UNION
    SELECT r.room_id, r.below_id, b.* FROM run r
    LEFT JOIN {_below("r.below_id")} AS b ON true
    WHERE r.below_id IS NOT NULL
)
SELECT * FROM run"""


_KEYS = """
SELECT w.number, f.chain_id, f.type, f.state_key
FROM unnest(%s::bigint[], %s::text[], %s::bigint[]) AS w(number, room_id, chain_id)
JOIN auth_chains f ON f.room_id = w.room_id AND f.chain_id = w.chain_id AND f.sequence = 1"""


def load_below(connection: Reads, wanted: Collection[tuple[str, Places]], answers: Mapping[str, Found]) -> None:
    """One query a level of chains, one for their keys."""
    numbered = dict(enumerate(sorted(wanted)))
    searches = _follow(connection, numbered)
    keys: dict[int, dict[int, tuple[str, str]]] = {number: {} for number in numbered}
    chains = [(number, numbered[number][0], chain) for number, search in searches.items() for chain in search.highest]
    for number, chain_id, event_type, state_key in connection.rows(_KEYS, columns_of(chains)):
        keys[number][chain_id] = restore(event_type), restore(state_key)
    for number, search in searches.items():
        need = numbered[number]
        answers[need[0]].below[need] = ChainsBelow(tuple(search.links), keys[number])


def _follow(connection: Reads, tops: Mapping[int, tuple[str, Places]]) -> dict[int, Below]:
    """What is below each of these, with all links."""
    searches = {number: Below(places) for number, (_, places) in tops.items()}
    while columns := [
        (number, tops[number][0], chain, above, top)
        for number, search in searches.items()
        for chain, (above, top) in search.wanted.items()
    ]:
        links: dict[int, list[Link]] = {number: [] for number in searches}
        for number, *link in connection.rows(_LINKS, columns_of(columns)):
            links[number].append((link[0], link[1], link[2], link[3]))
        for number, search in searches.items():
            search.add(links[number])
    return searches


def load_ranges(
    connection: Reads, wanted: Collection[tuple[str, tuple[Range, ...]]], answers: Mapping[str, Found]
) -> None:
    """The ids of the events in these ranges, with their places."""
    numbered = dict(enumerate(sorted(wanted)))
    columns = [(number, room_id, *of_chain) for number, (room_id, ranges) in numbered.items() for of_chain in ranges]
    found = _ids_in(connection, columns, answers)
    for number, need in numbered.items():
        answers[need[0]].ranges[need] = frozenset(found[number])


def _ids_in(
    connection: Reads, columns: Collection[tuple[int, str, int, int, int]], answers: Mapping[str, Found]
) -> defaultdict[int, set[str]]:
    """The ids of the events in ranges (number of a need, room, chain, lowest, highest), by the number; places into the
    answers."""
    room_ids = {number: room_id for number, room_id, *_ in columns}
    found: defaultdict[int, set[str]] = defaultdict(set)
    for number, event_id, chain_id, sequence in connection.rows(_RANGES, columns_of(columns)) if columns else ():
        name, room_id = restore(event_id), room_ids[number]
        found[number].add(name)
        answers[room_id].auth_places[room_id, name] = Place(chain_id, sequence)
    return found


def load_between(
    connection: Reads, wanted: Collection[tuple[str, Places, Places]], answers: Mapping[str, Found]
) -> None:
    """The ids of what stands between; few events, and what they cite, come along as far as they are not in the answers.

    One query a level of chains (what leads to a chain by way of others), one for the ids, one for the events.
    """
    numbered = dict(enumerate(sorted(wanted)))
    searches = _follow(connection, {number: (room_id, tops) for number, (room_id, tops, _) in numbered.items()})
    ranges = [
        (number, numbered[number][0], chain, low, high)
        for number, search in searches.items()
        for chain, (low, high) in search.above(numbered[number][2]).items()
    ]
    found = _ids_in(connection, ranges, answers)
    unloaded: set[tuple[str, str]] = set()
    for number, (room_id, tops, bottoms) in numbered.items():
        of_room = answers[room_id]
        of_room.between[room_id, tops, bottoms] = frozenset(found[number])
        # Who asks has the ends.
        ends = {Place(*place) for place in (*tops, *bottoms)}
        unloaded.update(
            (room_id, name)
            for name in found[number]
            if of_room.events.get((room_id, name)) is None and of_room.auth_places[room_id, name] not in ends
        )
    if len(unloaded) <= _ALONG_MAX and unloaded:
        load_chains(connection, unloaded, 1, answers)


def load_mainlines(connection: Reads, wanted: Iterable[tuple[str, int]], answers: Mapping[str, Found]) -> None:
    """Where the mainlines of these chains go on, and of those, to the end."""
    asked = sorted(set(wanted))
    names = names_of(room_id for room_id, _ in asked)
    for room_id, chain_id in asked:
        answers[room_id].mainlines[room_id, chain_id] = None
    for stored_room, chain_id, below_id, sequence in connection.rows(_MAINLINES, columns_of(asked)):
        room_id = names[stored_room]
        below = None if below_id is None else Place(below_id, sequence)
        answers[room_id].mainlines[room_id, chain_id] = below
