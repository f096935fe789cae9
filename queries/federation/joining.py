"""What another server is given when one of its users has joined, or knocks: the room's state and its auth chain.

A room of 10,000 members makes an answer of more than 10 MB (annals.queries.federation.texts), unless the other server
takes a partial state: one without the members that it can do without at first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import canonical_bytes
from annals.queries.errors import NotThere
from annals.queries.federation.pdus import (
    StateKey,
    auth_chain_ids,
    current_state_ids,
    pdus_of,
    state_ids_before,
)
from annals.queries.federation.texts import array_of, pdu_texts

#: "A list of state events to help the initiator of the knock identify the room", the recommended ones.
SHOWN_TYPES = (
    "m.room.create",
    "m.room.join_rules",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.canonical_alias",
    "m.room.encryption",
)
#: Of what a room is shown by. Where its texts are larger, the smaller ones must do.
SHOWN_BYTES_MAX = 64 * 1024
_SERVERS_SQL = """
    SELECT DISTINCT substr(user_id, strpos(user_id, ':') + 1) FROM room_memberships
    WHERE room_id = %s AND event_id = ANY (%s) AND membership = 'join' ORDER BY 1
"""
# The users of `m.heroes` in the summary of a room whose state has these member events: those who came first of who is
# joined or invited; where there are none, of who left.
_HEROES_SQL = """
    SELECT m.event_id FROM room_memberships m
    WHERE m.room_id = %s AND m.event_id = ANY (%s) AND m.membership = ANY (%s) ORDER BY m.position, m.user_id LIMIT 5
"""
_MEMBER, _NAMES = "m.room.member", (("m.room.name", ""), ("m.room.canonical_alias", ""))


class RoomAnswers:
    """Reads these answers, one snapshot each."""

    def __init__(self, database: Database, server_name: str) -> None:
        self._database, self._server_name = database, server_name

    async def join_answer(
        self, room_id: str, pdu: dict[str, Any], event_id: str, *, omit_members: bool = False
    ) -> bytes:
        """The answer to send_join as JSON text; `pdu` is the join as it is in the room. `omit_members`: the other
        server takes a state without most members, and an auth chain without what is in that state."""
        event = canonical_bytes(pdu)

        def read(snapshot: Snapshot) -> bytes:
            state = state_ids_before(snapshot, room_id, event_id)
            if state is None:
                raise NotThere(event_id)
            members = [held for (event_type, _), held in state.items() if event_type == _MEMBER]
            kept = _kept_members(snapshot, room_id, state, pdu) if omit_members else set(members)
            ids = [held for (event_type, _), held in state.items() if event_type != _MEMBER or held in kept]
            chain = auth_chain_ids(snapshot, room_id, [event_id, *ids])
            # "Any events that are returned in `state` may be omitted from `auth_chain`."
            chain = chain.difference(ids) if omit_members else chain
            servers = [restore(name) for (name,) in snapshot.rows(_SERVERS_SQL, (room_id, members))]
            parts = {
                b"auth_chain": array_of(pdu_texts(snapshot, room_id, list(chain))),
                b"event": event,
                b"members_omitted": b"true" if len(ids) < len(state) else b"false",
                b"origin": canonical_bytes(self._server_name),
                b"servers_in_room": canonical_bytes(servers),
                b"state": array_of(pdu_texts(snapshot, room_id, ids)),
            }
            return b"{" + b",".join(b'"%b":%b' % part for part in parts.items()) + b"}"

        return await self._database.read(read)

    async def shown_state(self, room_id: str, *members: str) -> list[dict[str, Any]]:
        """The PDUs by which a room is shown to who is not in it, and the member events of these users."""

        def read(snapshot: Snapshot) -> list[dict[str, Any]]:
            state = current_state_ids(snapshot, room_id)
            keys = [(shown, "") for shown in SHOWN_TYPES] + [("m.room.member", member) for member in members]
            return _bounded(pdus_of(snapshot, room_id, [state[key] for key in keys if key in state]))

        return await self._database.read(read)


def _kept_members(
    snapshot: Snapshot, room_id: str, state: Mapping[StateKey, str], pdu: Mapping[str, Any]
) -> Collection[str]:
    """Of a state, the member events that are given to who takes few: those that the auth rules look at when they judge
    the join, and, of a room without a name, those that its clients make one of."""
    users = (pdu["sender"], pdu["content"].get("join_authorised_via_users_server"))
    kept = {state[_MEMBER, user] for user in users if isinstance(user, str) and (_MEMBER, user) in state}
    if any(key in state for key in _NAMES):
        return kept
    others = [held for (event_type, user), held in state.items() if event_type == _MEMBER and user != pdu["sender"]]
    for memberships in (["join", "invite"], ["leave", "ban"]):
        heroes = snapshot.rows(_HEROES_SQL, (room_id, others, memberships))
        if heroes:
            return kept.union(restore(event_id) for (event_id,) in heroes)
    return kept


def _bounded(pdus: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many as fit into what others take; the first, which is the m.room.create, must be among them."""
    kept: list[dict[str, Any]] = []
    size_bytes = 0
    for pdu in pdus:
        size_bytes += len(canonical_bytes(pdu))
        if size_bytes <= SHOWN_BYTES_MAX or not kept:
            kept.append(pdu)
    return kept
