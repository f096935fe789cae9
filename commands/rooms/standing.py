"""Where a room stands for this server: whether its users can act in it here, and whom to ask where they cannot.

Servers are never taken from a room id: "A room's id is opaque", and version 12 has none in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.errors import InvalidIdentifier
from annals.matrix.identifiers import domain_of

#: So many servers are asked, one after the other.
SERVERS_MAX = 10

_HERE_SQL = """
    SELECT EXISTS (SELECT 1 FROM rooms WHERE room_id = %s),
           EXISTS (SELECT 1 FROM local_current_membership WHERE room_id = %s AND membership = 'join')
"""
_MINE_SQL = """
    SELECT m.membership, e.sender FROM local_current_membership m
    LEFT JOIN events e ON e.room_id = m.room_id AND e.event_id = m.event_id
    WHERE m.room_id = %s AND m.user_id = %s
"""
_PREVIEW_SQL = "SELECT room_state FROM room_previews WHERE room_id = %s AND user_id = %s"
_MEMBERS_SQL = """
    SELECT substr(state_key, strpos(state_key, ':') + 1) AS server, count(*) FROM current_state
    WHERE room_id = %s AND type = 'm.room.member' AND membership = 'join' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """`here`: what is done to the room can be done, and judged, here. `servers`: those that may be in it else."""

    here: bool
    membership: str | None
    """The user's own."""
    servers: tuple[str, ...]


def standing_of(snapshot: Snapshot, room_id: str, user_id: str, server_name: str) -> Standing:
    """As of one moment."""
    row = snapshot.one(_HERE_SQL, (room_id, room_id))
    is_known, is_joined = row if row else (False, False)
    mine = snapshot.one(_MINE_SQL, (room_id, user_id))
    membership = restore(mine[0]) if mine else None
    if is_known and is_joined:
        return Standing(True, membership, ())
    members = [restore(server) for server, _ in snapshot.rows(_MEMBERS_SQL, (room_id, SERVERS_MAX))]
    others = [server for server in members if server != server_name]
    named = [*_inviter(mine[1] if mine else None), *_previewed(snapshot, room_id, user_id), *others]
    servers = tuple(server for server in dict.fromkeys(named) if server != server_name)[:SERVERS_MAX]
    # A room that everybody has left, and nobody else was in, has not moved since: it is as it stands here.
    return Standing(is_known and not others, membership, servers)


def _inviter(sender: str | None) -> Iterable[str]:
    return _domains([restore(sender)]) if sender else ()


def _previewed(snapshot: Snapshot, room_id: str, user_id: str) -> Iterable[str]:
    """Who sent what the room is shown by: they were in it, so their servers may be."""
    row = snapshot.one(_PREVIEW_SQL, (room_id, user_id))
    if row is None:
        return ()
    shown = json.loads(restore(row[0]))
    senders = [item.get("sender") for item in shown if isinstance(item, dict)] if isinstance(shown, list) else []
    return _domains(sender for sender in senders if isinstance(sender, str))


def _domains(user_ids: Iterable[str]) -> list[str]:
    found = []
    for user_id in user_ids:
        try:
            found.append(domain_of(user_id))
        except InvalidIdentifier:
            continue
    return found
