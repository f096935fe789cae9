"""What other servers read of rooms: events, states, auth chains, history. Answers are JSON objects but for what the
transport adds. All raise NoAccess for servers that are not in the room, and NotThere for what the room does not have:
an event of another room is answered like one that never was (security row 30)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.queries.errors import NoAccess, NotThere
from annals.queries.federation.access import ServerAccess, access_of, visible_to_server
from annals.queries.federation.pdus import auth_chain_ids, pdus_of, state_ids_before
from annals.queries.federation.stored import COLUMNS, SERVABLE, StoredEvent, stored_event, stored_events
from annals.queries.federation.texts import array_of, pdu_texts
from annals.queries.federation.walks import Walk, ancestors
from annals.queries.moments import Moment

#: Whatever is asked for (security row 21).
BACKFILL_MAX = 100
MISSING_EVENTS_MAX = 50
#: Event ids that one request may name: what it asks about, and where the answer shall end. Who has more ends of that
#: kind than we look at is told some events that it has.
NAMED_MAX, EARLIEST_MAX = 50, 1_000
_DEPTH_MAX = (1 << 63) - 1
# Of events near a moment this many are looked at, until one is found that the server may see.
_NEAR_MAX = 50

# Until version 3 senders chose event ids: two rooms might have the same one.
_ANYWHERE_SQL = f"SELECT {COLUMNS} FROM events e WHERE e.event_id = %s AND {SERVABLE} ORDER BY e.room_id LIMIT 5"
_NEAR_SQL = f"""
    SELECT {COLUMNS} FROM events e
    WHERE e.room_id = %s AND e.origin_server_ts {{compare}} %s AND e.verdict = 'accepted' AND NOT e.outlier
    ORDER BY e.origin_server_ts {{order}} LIMIT {_NEAR_MAX}
"""

Answer = dict[str, Any]


class FederationReads:
    """Queries of other servers on rooms."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def event(self, server: str, event_id: str) -> Answer:
        """One PDU, by its id alone."""
        return await self._database.read(lambda snapshot: _event(snapshot, server, event_id))

    async def state(self, server: str, room_id: str, event_id: str) -> bytes:
        """The state before an event with its auth chain, as PDUs; a JSON text, since it may be large."""

        def read(snapshot: Snapshot) -> bytes:
            state_ids, chain_ids = _state_ids(snapshot, server, room_id, event_id)
            chain = array_of(pdu_texts(snapshot, room_id, chain_ids))
            return b'{"auth_chain":%b,"pdus":%b}' % (chain, array_of(pdu_texts(snapshot, room_id, state_ids)))

        return await self._database.read(read)

    async def state_ids(self, server: str, room_id: str, event_id: str) -> Answer:
        """The same as ids."""

        def read(snapshot: Snapshot) -> Answer:
            state_ids, chain_ids = _state_ids(snapshot, server, room_id, event_id)
            return {"pdu_ids": state_ids, "auth_chain_ids": chain_ids}

        return await self._database.read(read)

    async def event_auth(self, server: str, room_id: str, event_id: str) -> Answer:
        """The auth chain of an event."""

        def read(snapshot: Snapshot) -> Answer:
            access_of(snapshot, room_id, server, [event_id])
            if event_id not in stored_events(snapshot, room_id, [event_id]):
                raise NotThere(event_id)
            chain_ids = sorted(auth_chain_ids(snapshot, room_id, [event_id]))
            return {"auth_chain": pdus_of(snapshot, room_id, chain_ids)}

        return await self._database.read(read)

    async def backfill(self, server: str, room_id: str, walk: Walk) -> Answer:
        """The events named and what came before them, newest first."""

        def read(snapshot: Snapshot) -> Answer:
            access = access_of(snapshot, room_id, server, walk.latest)
            limit = min(walk.limit, BACKFILL_MAX)
            named = stored_events(snapshot, room_id, walk.latest)
            here = [event_id for event_id in walk.latest if event_id in named][:limit]
            before = ancestors(snapshot, room_id, replace(walk, latest=here, limit=limit - len(here)))
            found = stored_events(snapshot, room_id, [*here, *before])
            # A rejected event is given to who asks for it by its id, not spread.
            events = [event for event in found.values() if event.verdict != "rejected" or event.event_id in named]
            events.sort(key=lambda event: (-event.depth, -event.position))
            return {"pdus": _as_seen(snapshot, access, events)}

        return await self._database.read(read)

    async def missing_events(self, server: str, room_id: str, walk: Walk) -> Answer:
        """What lies between two ends of a gap, oldest first. With what was rejected: it may be what is missing."""

        def read(snapshot: Snapshot) -> Answer:
            access = access_of(snapshot, room_id, server, walk.latest)
            bounded = replace(
                walk, limit=min(walk.limit, MISSING_EVENTS_MAX), min_depth=min(walk.min_depth, _DEPTH_MAX)
            )
            found = stored_events(snapshot, room_id, ancestors(snapshot, room_id, bounded))
            events = sorted(found.values(), key=lambda event: (event.depth, event.position))
            return {"events": _as_seen(snapshot, access, events)}

        return await self._database.read(read)

    async def near(self, server: str, room_id: str, moment: Moment) -> Answer:
        """The event nearest to a moment that the server may see."""

        def read(snapshot: Snapshot) -> Answer:
            access = access_of(snapshot, room_id, server)
            compare, order = (">=", "ASC") if moment.forwards else ("<=", "DESC")
            rows = snapshot.rows(_NEAR_SQL.format(compare=compare, order=order), (room_id, moment.at_ms))
            events = [stored_event(row) for row in rows]
            visible = visible_to_server(snapshot, access, events)
            for event in events:
                if event.event_id in visible:
                    return {"event_id": event.event_id, "origin_server_ts": event.origin_server_ts}
            raise NotThere(moment)

        return await self._database.read(read)


def _event(snapshot: Snapshot, server: str, event_id: str) -> Answer:
    refused: NoAccess | None = None
    for event in map(stored_event, snapshot.rows(_ANYWHERE_SQL, (event_id,))):
        try:
            access = access_of(snapshot, event.room_id, server, [event_id])
        except NoAccess as error:
            refused = error
            continue
        return {"pdus": _as_seen(snapshot, access, [event])}
    raise refused or NotThere(event_id)


def _state_ids(snapshot: Snapshot, server: str, room_id: str, event_id: str) -> tuple[list[str], list[str]]:
    access_of(snapshot, room_id, server, [event_id])
    state = state_ids_before(snapshot, room_id, event_id)
    if state is None:
        raise NotThere(event_id)
    state_ids = sorted(state.values())
    return state_ids, sorted(auth_chain_ids(snapshot, room_id, state_ids))


def _as_seen(snapshot: Snapshot, access: ServerAccess, events: list[StoredEvent]) -> list[Answer]:
    visible = visible_to_server(snapshot, access, events)
    return [event.pdu(event.event_id in visible) for event in events]
