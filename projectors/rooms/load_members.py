"""Loading who of a room is ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from annals.database.text import restore
from annals.projectors.rooms.found import Found, Reads, columns_of, names_of

_RESIDENT = """
SELECT EXISTS (SELECT FROM local_current_membership
    WHERE room_id = %s AND membership = 'join' AND user_id <> ALL(%s))"""

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


def load_memberships(connection: Reads, wanted: Collection[tuple[str, str]], answers: Mapping[str, Found]) -> None:
    for key in wanted:
        answers[key[0]].memberships[key] = None
    names = names_of(text for pair in wanted for text in pair)
    for room_id, user_id, membership in connection.rows(_MEMBERSHIPS, columns_of(wanted)):
        answers[names[room_id]].memberships[names[room_id], names[user_id]] = restore(membership)
