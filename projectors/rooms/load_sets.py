"""Loading sets from outside: the ids that their chunks named, and of thousands of events what a set needs of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from sys import intern

from annals.database.text import restore
from annals.projectors.rooms.found import Found, Reads, columns_of, names_of
from annals.rooms.needs import Glimpse
from annals.rooms.out_of_band import OUT_OF_BAND

_SETS = """
SELECT s.room_id, s.set_id, s.event_id
FROM unnest(%s::text[], %s::text[]) AS w(room_id, set_id)
JOIN state_sets s ON s.room_id = w.room_id AND s.set_id = w.set_id AND s.role = 'state'
ORDER BY s.room_id, s.set_id, s.event_id"""

_GLIMPSES = """
SELECT e.room_id, e.event_id, e.room_version, e.type, e.state_key, e.membership, e.verdict,
    coalesce(e.reason = %s, false)
FROM unnest(%s::text[], %s::text[]) AS w(room_id, event_id)
JOIN events e ON e.room_id = w.room_id AND e.event_id = w.event_id"""


def load_sets(connection: Reads, wanted: Collection[tuple[str, str]], answers: Mapping[str, Found]) -> None:
    names = names_of(text for pair in wanted for text in pair)
    ids: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for stored_room, stored_set, event_id in connection.rows(_SETS, columns_of(wanted)):
        ids[names[stored_room], names[stored_set]].append(restore(event_id))
    for key in wanted:
        answers[key[0]].sets[key] = ids.get(key, ())


def load_glimpses(connection: Reads, wanted: Collection[tuple[str, str]], answers: Mapping[str, Found]) -> None:
    for room_id, event_id in wanted:
        answers[room_id].glimpses[room_id, event_id] = None
    names = names_of(room_id for room_id, _ in wanted)
    for row in connection.rows(_GLIMPSES, [OUT_OF_BAND, *columns_of(wanted)]):
        room_id, event_id, version, event_type, state_key, membership, verdict, out_of_band = row
        found = Glimpse(
            event_id=restore(event_id),
            room_version=intern(version),
            type=intern(restore(event_type)),
            state_key=None if state_key is None else restore(state_key),
            membership=membership and intern(restore(membership)),
            verdict=intern(verdict),
            out_of_band=out_of_band,
        )
        answers[names[room_id]].glimpses[names[room_id], found.event_id] = found
