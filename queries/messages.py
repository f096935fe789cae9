"""Reading a room's timeline: /messages, /context, single events, relations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.projectors.rooms.read import state_entries, whole_state
from annals.queries.client_events import COLUMNS, JOINS, VISIBLE, EventRow, Viewer, event_row, shown
from annals.queries.edges import Past, edges_within
from annals.queries.errors import NotThere
from annals.queries.history import visible_to
from annals.queries.pages import NEWEST, OLDEST, PageToken
from annals.queries.places import PlaceReader
from annals.queries.room_access import NOW, Access, access_to
from annals.queries.sync.filters import EventFilter
from annals.queries.timeline_pages import PageRequest, read_page

_MEMBER = "m.room.member"
#: How often the past is fetched for one answer.
_FETCHES_MAX = 2

_EVENT_SQL = f"""
    SELECT {COLUMNS}, e.state_after FROM events e {JOINS} WHERE e.room_id = %s AND e.event_id = %s AND {VISIBLE}
"""
_EVENTS_SQL = f"""
    SELECT {COLUMNS} FROM events e {JOINS} WHERE e.room_id = %s AND e.event_id = ANY (%s)
    ORDER BY e.position, e.event_id
"""
# PostgreSQL reads no JSON with U+0000 in it.
_HAS_RELATION_TYPE = r"""
    CASE WHEN position('\u0000' IN e.client_json) > 0 THEN FALSE
    ELSE e.client_json::json #>> '{content,m.relates_to,rel_type}' = %s END
"""
_AFTER_SQL = "SELECT state_after FROM events WHERE room_id = %s AND event_id = %s"


@dataclass(frozen=True, slots=True)
class MessagesWanted:
    """What a page of messages is asked for by; tokens as the client gave them."""

    backwards: bool
    from_token: str | None = None
    to_token: str | None = None
    limit: int = 10
    filter: EventFilter = field(default_factory=EventFilter)


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer's JSON text, and the edges of what it was made of."""

    text: bytes
    edges: tuple[str, ...]


class Messages:
    """Queries on timelines; answers are JSON texts."""

    def __init__(self, database: Database, places: PlaceReader, past: Past | None = None) -> None:
        self._database = database
        self._places = places
        self._past = past

    async def messages(self, viewer: Viewer, room_id: str, wanted: MessagesWanted) -> bytes:
        """A page of the timeline; what it lacks of the room's past is fetched first. Raises NoAccess, BadPlace."""
        return await self._with_the_past(
            room_id, wanted.limit, lambda snapshot: self._messages(snapshot, viewer, room_id, wanted)
        )

    async def _with_the_past(self, room_id: str, limit: int, read: Callable[[Snapshot], _Answer]) -> bytes:
        """The answer of `read`, again if it has edges behind which other servers have something."""
        answer = await self._database.read(read)
        for _ in range(_FETCHES_MAX):
            if not answer.edges or self._past is None or not await self._past(room_id, answer.edges, limit):
                break
            answer = await self._database.read(read)
        return answer.text

    def _messages(self, snapshot: Snapshot, viewer: Viewer, room_id: str, wanted: MessagesWanted) -> _Answer:
        access = access_to(snapshot, room_id, viewer.user_id)
        request = self._page_request(snapshot, viewer, room_id, wanted, access)
        page = read_page(snapshot, request)
        edges = edges_within(snapshot, room_id, request.start, page.end) if wanted.backwards else ()
        answer: dict[str, Any] = {"chunk": _fragments(page.events, viewer), "start": request.start.pack()}
        if page.end is not None:
            answer["end"] = page.end.pack()
        elif edges and page.events:
            # The past goes on, if not now: the client may ask again from here. Without anything to show it gets no
            # token, or it would ask for ever.
            answer["end"] = PageToken(page.events[-1].depth, page.events[-1].position).pack()
        if wanted.filter.lazy_load_members and page.events:
            senders = {event.sender for event in page.events}
            members = _members_before(snapshot, page.events[0], senders)
            answer["state"] = _fragments(members, viewer)
        return _Answer(orjson.dumps(answer), edges)

    def _page_request(
        self, snapshot: Snapshot, viewer: Viewer, room_id: str, wanted: MessagesWanted, access: Access
    ) -> PageRequest:
        before, after = self._places.place, self._places.first_after
        of_start, of_stop = (before, after) if wanted.backwards else (after, before)
        if wanted.from_token is not None:
            start = of_start(snapshot, room_id, wanted.from_token)
        else:
            start = NEWEST if wanted.backwards else OLDEST
        stop = None if wanted.to_token is None else of_stop(snapshot, room_id, wanted.to_token)
        return PageRequest(
            room_id, viewer.user_id, start, wanted.backwards, wanted.limit, access.until, stop, wanted.filter
        )

    async def event(self, viewer: Viewer, room_id: str, event_id: str) -> bytes:
        """One event. Raises NotThere, for events of other rooms too."""

        def read(snapshot: Snapshot) -> bytes:
            return shown(_visible_event(snapshot, viewer, room_id, event_id)[0], viewer)

        return await self._database.read(read)

    async def context(self, viewer: Viewer, room_id: str, event_id: str, limit: int, wanted: EventFilter) -> bytes:
        """An event with what came before and after it: `limit` events together. Raises NotThere."""
        return await self._with_the_past(
            room_id, limit, lambda snapshot: _context(snapshot, viewer, (room_id, event_id), limit, wanted)
        )

    async def relations(
        self, viewer: Viewer, room_id: str, event_id: str, kind: tuple[str | None, str | None], wanted: MessagesWanted
    ) -> bytes:
        """Events that relate to one, by (relation type, event type) where given. Raises NotThere, BadPlace."""

        def read(snapshot: Snapshot) -> bytes:
            _visible_event(snapshot, viewer, room_id, event_id)
            access = access_to(snapshot, room_id, viewer.user_id)
            return self._relations(snapshot, viewer, (room_id, event_id), kind, wanted, access)

        return await self._database.read(read)

    def _relations(
        self,
        snapshot: Snapshot,
        viewer: Viewer,
        named: tuple[str, str],
        kind: tuple[str | None, str | None],
        wanted: MessagesWanted,
        access: Access,
    ) -> bytes:
        room_id, event_id = named
        relation_type, event_type = kind
        condition, params = " AND e.relates_to = %s AND e.redacted_by IS NULL", [event_id]
        if relation_type is not None:
            condition += f" AND {_HAS_RELATION_TYPE}"
            params.append(relation_type)
        if event_type is not None:
            condition += " AND e.type = %s"
            params.append(event_type)
        request = self._page_request(snapshot, viewer, room_id, wanted, access)
        request = replace(request, condition=condition, params=tuple(params))
        page = read_page(snapshot, request)
        answer: dict[str, Any] = {"chunk": _fragments(page.events, viewer)}
        if page.end is not None:
            answer["next_batch"] = page.end.pack()
        if wanted.from_token is not None:
            answer["prev_batch"] = wanted.from_token
        return orjson.dumps(answer)


def _visible_event(snapshot: Snapshot, viewer: Viewer, room_id: str, event_id: str) -> tuple[EventRow, int | None]:
    """The event, if the user may see it, and the id of the state after it."""
    row = snapshot.one(_EVENT_SQL, (room_id, event_id))
    if row is None:
        raise NotThere(event_id)
    event = event_row(row)
    if event_id not in visible_to(snapshot, [event], viewer.user_id):
        raise NotThere(event_id)
    return event, row[-1]


def _context(snapshot: Snapshot, viewer: Viewer, named: tuple[str, str], limit: int, wanted: EventFilter) -> _Answer:
    room_id, event_id = named
    event, _ = _visible_event(snapshot, viewer, room_id, event_id)
    place = PageToken(event.depth, event.position)
    behind = PageToken(event.depth, event.position + 1)
    half = limit // 2
    before = read_page(snapshot, PageRequest(room_id, viewer.user_id, place, True, half, NOW, wanted=wanted))
    after = read_page(snapshot, PageRequest(room_id, viewer.user_id, behind, False, limit - half, NOW, wanted=wanted))
    first = before.events[-1] if before.events else event
    last = after.events[-1] if after.events else event
    start = before.end or PageToken(first.depth, first.position)
    end = after.end or PageToken(last.depth, last.position + 1)
    senders = {shown_event.sender for shown_event in (*before.events, event, *after.events)}
    state = _state_after(snapshot, last, senders if wanted.lazy_load_members else None)
    answer = {
        "start": start.pack(),
        "end": end.pack(),
        "event": orjson.Fragment(shown(event, viewer)),
        "events_before": _fragments(before.events, viewer),
        "events_after": _fragments(after.events, viewer),
        "state": _fragments(state, viewer),
    }
    edges = edges_within(snapshot, room_id, place, before.end) if half else ()
    return _Answer(orjson.dumps(answer), edges)


def _members_before(snapshot: Snapshot, event: EventRow, user_ids: Iterable[str]) -> list[EventRow]:
    """The member events of these users in the state before an event."""
    if not event.state_before:
        return []
    room_id = event.room_id
    wanted = [(room_id, event.state_before, _MEMBER, user_id) for user_id in user_ids]
    found = state_entries(snapshot, wanted)
    return _events(snapshot, room_id, [event_id for event_id in found.values() if event_id is not None])


def _state_after(snapshot: Snapshot, event: EventRow, members: set[str] | None) -> list[EventRow]:
    """The state after an event; of the members only `members`, where that is given."""
    room_id = event.room_id
    row = snapshot.one(_AFTER_SQL, (room_id, event.event_id))
    if row is None or not row[0]:
        return []
    whole = whole_state(snapshot, room_id, row[0])
    ids = [
        event_id
        for (event_type, state_key), event_id in whole.items()
        if members is None or event_type != _MEMBER or state_key in members
    ]
    return _events(snapshot, room_id, ids)


def _events(snapshot: Snapshot, room_id: str, event_ids: Sequence[str]) -> list[EventRow]:
    if not event_ids:
        return []
    return [event_row(row) for row in snapshot.rows(_EVENTS_SQL, (room_id, list(event_ids)))]


def _fragments(events: Sequence[EventRow], viewer: Viewer) -> list[orjson.Fragment]:
    return [orjson.Fragment(shown(event, viewer)) for event in events]
