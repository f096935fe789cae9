"""Loading who of a room is ours, and which servers are in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from annals.database.text import restore, storable
from annals.projectors.rooms.found import Found, Reads, columns_of, names_of

_RESIDENT = """
SELECT EXISTS (SELECT FROM local_current_membership
    WHERE room_id = %s AND membership = 'join' AND user_id <> ALL(%s))"""

# The server as the index has it (tables.py: current_state_joined_by_server).
_IN_ROOM = """
SELECT EXISTS (SELECT FROM current_state
    WHERE substr(state_key, strpos(state_key, ':') + 1) = %s AND room_id = %s
        AND type = 'm.room.member' AND membership = 'join' AND state_key LIKE '@%%:%%' AND state_key <> ALL(%s))"""

_MEMBERSHIPS = """
SELECT m.room_id, m.user_id, m.membership
FROM unnest(%s::text[], %s::text[]) AS w(room_id, user_id)
JOIN local_current_membership m ON m.room_id = w.room_id AND m.user_id = w.user_id"""


def load_residents(
    connection: Reads, wanted: Collection[tuple[str, tuple[str, ...]]], answers: Mapping[str, Found]
) -> None:
    # One room a handshake: seldom more than one at a time.
    for room_id, users in sorted(wanted):
        ((found,),) = connection.rows(_RESIDENT, [room_id, list(users)])
        answers[room_id].residents[room_id, users] = found


def load_servers(
    connection: Reads, wanted: Collection[tuple[str, str, tuple[str, ...]]], answers: Mapping[str, Found]
) -> None:
    # Rooms that name a policy server: few of a batch.
    for room_id, server, users in sorted(wanted):
        ((found,),) = connection.rows(_IN_ROOM, [storable(server), storable(room_id), [*map(storable, users)]])
        answers[room_id].servers[room_id, server, users] = found


def load_memberships(connection: Reads, wanted: Collection[tuple[str, str]], answers: Mapping[str, Found]) -> None:
    for key in wanted:
        answers[key[0]].memberships[key] = None
    names = names_of(text for pair in wanted for text in pair)
    for room_id, user_id, membership in connection.rows(_MEMBERSHIPS, columns_of(wanted)):
        answers[names[room_id]].memberships[names[room_id], names[user_id]] = restore(membership)
