"""One /sync answer from one snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from annals.database.snapshot import Snapshot
from annals.eventlog.partition import partition_of
from annals.projectors.positions.read import vector_of
from annals.queries.client_events import EventRow, shown
from annals.queries.sync.extras import account_data, receipts, stripped_state, summaries
from annals.queries.sync.request import SyncRequest
from annals.queries.sync.rooms import SyncRoom, rooms_of
from annals.queries.sync.state import questions, state_of
from annals.queries.sync.timelines import Timeline, moved_rooms, timelines
from annals.queries.sync.token import BadToken, SyncToken, token_of
from annals.queries.unread import Unread, unread_counts
from annals.schemas.position import step_start

_MEMBER = "m.room.member"
_OWN_EVENTS_SQL = """
    SELECT room_id, event_id FROM local_current_membership WHERE user_id = %s AND room_id = ANY (%s)
"""


class Behind(Exception):
    """The tables have not reached the token (a switch, a rebuild, a crash of PostgreSQL): wait, never answer less."""


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """The body of an answer, who is to be waited for, and whether it says anything."""

    body: dict[str, Any] = field(repr=False)
    token: SyncToken
    joined: frozenset[str]
    empty: bool


def read_sync(
    snapshot: Snapshot, request: SyncRequest, log: bytes, typing: Mapping[str, Sequence[str]], ephemeral: int
) -> SyncAnswer:
    """What a /sync shows as of `snapshot`. `typing`: rooms whose typing users are to be told."""
    token = token_of(log, vector_of(snapshot.positions), ephemeral)
    since = request.since
    if since is not None and not since.fits(token):
        raise BadToken("the token has another number of partitions")
    if since is not None and since.is_ahead_of(token):
        raise Behind
    rooms = rooms_of(snapshot, request)
    joined = frozenset(room.room_id for room in rooms if room.membership == "join")
    reading = _Reading(snapshot, request, token)
    sections = {
        "join": reading.joined(rooms, typing),
        "invite": reading.stripped(rooms, "invite", "invite_state"),
        "knock": reading.stripped(rooms, "knock", "knock_state"),
        "leave": reading.left(rooms),
    }
    body: dict[str, Any] = {"next_batch": token.pack()}
    if of_user := reading.account_data.pop("", None):
        body["account_data"] = {"events": of_user}
    shown_rooms = {name: section for name, section in sections.items() if section}
    if shown_rooms:
        body["rooms"] = shown_rooms
    # Clients stop making one-time keys at the sight of this list being absent.
    body["device_one_time_keys_count"] = {}
    return SyncAnswer(body, token, joined, not of_user and not shown_rooms)


class _Reading:
    """The parts of one answer, each read set-wise over all rooms."""

    def __init__(self, snapshot: Snapshot, request: SyncRequest, token: SyncToken) -> None:
        self._snapshot = snapshot
        self._request = request
        self._user_id = request.viewer.user_id
        self._rooms_moved = request.since is None or request.since.rooms != token.rooms
        self._receipts_moved = request.since is None or request.since.receipts != token.receipts
        self.account_data = self._account_data(token)

    def _account_data(self, token: SyncToken) -> dict[str, list[dict[str, Any]]]:
        since, wanted = self._request.since, self._request.filter
        partition = partition_of(self._user_id, len(token.users)) if token.users else 0
        if since is not None and since.users[partition] == token.users[partition] and not self._request.full_state:
            return {}
        low = step_start(since.users[partition]) if since else 0
        return account_data(self._snapshot, self._user_id, low, wanted.account_data, wanted.room_account_data)

    def joined(self, rooms: Sequence[SyncRoom], typing: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """The section of rooms that the user is in."""
        mine = [room for room in rooms if room.membership == "join"]
        ids = [room.room_id for room in mine]
        moved = self._moved(mine)
        told = self._told(mine, moved)
        wanted = self._request.filter.ephemeral
        of_readers = self._receipts(ids, [room.room_id for room in mine if room.whole])
        read_moved = [room_id for room_id in of_readers if room_id not in moved]
        counts = unread_counts(self._snapshot, [*told, *read_moved], self._user_id) if told or read_moved else {}
        section: dict[str, Any] = {}
        for room in mine:
            room_id = room.room_id
            entry = told.get(room_id, {})
            ephemeral = []
            if room_id in typing and wanted.takes_type("m.typing") and wanted.takes_room(room_id):
                ephemeral.append({"type": "m.typing", "content": {"user_ids": list(typing[room_id])}})
            if room_id in of_readers and wanted.takes_type("m.receipt") and wanted.takes_room(room_id):
                ephemeral.append(of_readers[room_id])
            data = self.account_data.get(room_id, [])
            if not entry and not ephemeral and not data and room_id not in counts:
                continue
            section[room_id] = _joined_entry(entry, ephemeral, data, counts.get(room_id))
        return section

    def _moved(self, rooms: Sequence[SyncRoom]) -> frozenset[str]:
        since = self._request.since
        whole = frozenset(room.room_id for room in rooms if room.whole)
        if since is None or not self._rooms_moved:
            return whole
        return whole | moved_rooms(self._snapshot, *since.room_bounds())

    def _told(self, rooms: Sequence[SyncRoom], moved: frozenset[str]) -> dict[str, dict[str, Any]]:
        """Timeline, state and summary of each room that moved."""
        chosen = [room for room in rooms if room.room_id in moved]
        if not chosen:
            return {}
        entries = self._timelines_and_state(chosen)
        counted = [room.room_id for room in chosen if room.whole or _has_member(entries[room.room_id][0])]
        summary = summaries(self._snapshot, counted, self._user_id) if counted else {}
        told = {}
        for room in chosen:
            timeline, state = entries[room.room_id]
            if not room.whole and not timeline.events and not timeline.limited and not state:
                continue
            told[room.room_id] = self._entry(timeline, state) | {"summary": summary.get(room.room_id, {})}
        return told

    def _timelines_and_state(self, rooms: Sequence[SyncRoom]) -> dict[str, tuple[Timeline, list[EventRow]]]:
        wanted = self._request.filter
        of_rooms = timelines(self._snapshot, rooms, wanted.timeline, self._user_id)
        asked = questions(rooms, of_rooms, self._user_id, self._request.use_state_after)
        state = state_of(self._snapshot, asked, wanted.state)
        return {room.room_id: (of_rooms[room.room_id], state.get(room.room_id, [])) for room in rooms}

    def _entry(self, timeline: Timeline, state: Sequence[EventRow]) -> dict[str, Any]:
        name = "state_after" if self._request.use_state_after else "state"
        in_timeline = frozenset(event.event_id for event in timeline.events)
        if self._request.use_state_after:
            in_timeline = frozenset()
        entry: dict[str, Any] = {
            "timeline": {"events": [self._shown(event) for event in timeline.events], "limited": timeline.limited},
            name: {"events": [self._shown(event) for event in state if event.event_id not in in_timeline]},
        }
        if timeline.prev_batch is not None:
            entry["timeline"]["prev_batch"] = timeline.prev_batch.pack()
        return entry

    def _shown(self, event: EventRow) -> orjson.Fragment:
        return orjson.Fragment(shown(event, self._request.viewer))

    def _receipts(self, ids: Sequence[str], whole: Sequence[str]) -> dict[str, dict[str, Any]]:
        if not ids or not (self._receipts_moved or whole):
            return {}
        return receipts(self._snapshot, ids, whole, self._request.since, self._user_id)

    def stripped(self, rooms: Sequence[SyncRoom], membership: str, name: str) -> dict[str, Any]:
        """The section of rooms that the user is invited to, or knocks at."""
        chosen = [r.room_id for r in rooms if r.membership == membership and (r.changed or r.whole)]
        if not chosen:
            return {}
        own = {room_id: event_id for room_id, event_id in self._snapshot.rows(_OWN_EVENTS_SQL, (self._user_id, chosen))}
        return {room_id: {name: {"events": e}} for room_id, e in stripped_state(self._snapshot, own).items()}

    def left(self, rooms: Sequence[SyncRoom]) -> dict[str, Any]:
        """The section of rooms that the user left, or was banned from."""
        initial = self._request.since is None
        chosen = [
            room
            for room in rooms
            if room.membership in ("leave", "ban") and (self._request.filter.include_leave if initial else room.changed)
        ]
        if not chosen:
            return {}
        entries = self._timelines_and_state(chosen)
        return {
            room_id: self._entry(timeline, state) | {"account_data": {"events": self.account_data.get(room_id, [])}}
            for room_id, (timeline, state) in entries.items()
        }


def _has_member(timeline: Timeline) -> bool:
    return any(event.type == _MEMBER for event in timeline.events)


def _joined_entry(
    entry: Mapping[str, Any], ephemeral: list[Any], data: list[Any], unread: Unread | None
) -> dict[str, Any]:
    made = dict(entry)
    made["ephemeral"] = {"events": ephemeral}
    made["account_data"] = {"events": data}
    if unread is not None:
        made["unread_notifications"] = {
            "notification_count": unread.notifications,
            "highlight_count": unread.highlights,
        }
    return made
