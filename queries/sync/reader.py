"""One /sync answer from one snapshot, in at most ten queries however many rooms and invites there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from annals.database.snapshot import Snapshot
from annals.projectors.positions.read import vector_of
from annals.queries.client_events import EventRow, shown
from annals.queries.room_facts import room_facts
from annals.queries.sync.elsewhere import own_events, previews, unwanted_inviters
from annals.queries.sync.event_fields import only_fields
from annals.queries.sync.extras import Extras, extras, stripped_state
from annals.queries.sync.presence import NO_NEWS, PresenceNews, told
from annals.queries.sync.request import SyncRequest
from annals.queries.sync.rooms import SyncRoom, rooms_of
from annals.queries.sync.state import questions, state_of
from annals.queries.sync.timelines import Timeline, timelines
from annals.queries.sync.token import BadToken, SyncToken, token_of
from annals.queries.unread import unread_counts

_MEMBER = "m.room.member"


class Behind(Exception):
    """The tables have not reached the token (a switch, a rebuild, a crash of PostgreSQL): wait, never answer less."""


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """The body of an answer, who is to be waited for, and whether it says anything."""

    body: dict[str, Any] = field(repr=False)
    token: SyncToken
    joined: frozenset[str]
    empty: bool


@dataclass(frozen=True, slots=True)
class _Told:
    """Timeline and state of a room."""

    timeline: Timeline
    state: Sequence[EventRow]

    @property
    def says_anything(self) -> bool:
        return bool(self.timeline.events or self.timeline.limited or self.state)

    @property
    def names_members(self) -> bool:
        return any(event.type == _MEMBER for event in (*self.timeline.events, *self.state))


def read_sync(
    snapshot: Snapshot,
    request: SyncRequest,
    log: bytes,
    typing: Mapping[str, Sequence[str]],
    ephemeral: int,
    presence: PresenceNews = NO_NEWS,
) -> SyncAnswer:
    """What a /sync shows as of `snapshot`. `typing`: rooms whose typing users are to be told."""
    token = token_of(log, vector_of(snapshot.positions), ephemeral)
    since = request.since
    if since is not None and not since.fits(token):
        raise BadToken("the token has another number of partitions")
    if since is not None and since.is_ahead_of(token):
        raise Behind
    rooms = rooms_of(snapshot, request, token)
    joined = frozenset(room.room_id for room in rooms if room.membership == "join")
    reading = _Reading(snapshot, request, rooms, extras(snapshot, request, token, rooms))
    sections = {
        "join": reading.joined(typing),
        **reading.stripped(),
        "leave": reading.left(),
    }
    body: dict[str, Any] = {"next_batch": token.pack()}
    if of_user := reading.extras.account_data.get(""):
        body["account_data"] = {"events": of_user}
    shown_rooms = {name: section for name, section in sections.items() if section}
    if shown_rooms:
        body["rooms"] = shown_rooms
    of_others = False
    if there := reading.presence(presence):
        body["presence"] = {"events": list(there.values())}
        # Nobody waits for what they are themselves.
        of_others = there.keys() != {request.viewer.user_id}
    # Clients stop making one-time keys at the sight of this list being absent.
    body["device_one_time_keys_count"] = {}
    return SyncAnswer(body, token, joined, not of_user and not shown_rooms and not of_others)


class _Reading:
    """The parts of one answer, each read set-wise over all rooms."""

    def __init__(self, snapshot: Snapshot, request: SyncRequest, rooms: Sequence[SyncRoom], extras: Extras) -> None:
        self._snapshot = snapshot
        self._request = request
        self._user_id = request.viewer.user_id
        self._joined = [room for room in rooms if room.membership == "join"]
        left = [room for room in rooms if room.membership in ("leave", "ban") and self._shows_left(room)]
        self._left = [room for room in left if room.preview is None]
        self._left_elsewhere = [room for room in left if room.preview is not None]
        self._others = [r for r in rooms if r.membership in ("invite", "knock") and (r.changed or r.whole)]
        self.extras = extras
        self._told = self._timelines_and_state([*(r for r in self._joined if r.moved or r.whole), *self._left])

    def _shows_left(self, room: SyncRoom) -> bool:
        # Of a room that was rebuilt, the client may believe that the user is still in it.
        return self._request.filter.include_leave if self._request.since is None else room.changed or room.fresh

    def _timelines_and_state(self, rooms: Sequence[SyncRoom]) -> dict[str, _Told]:
        if not rooms:
            return {}
        wanted, after = self._request.filter, self._request.use_state_after
        of_rooms = timelines(self._snapshot, rooms, wanted.timeline, self._user_id)
        asked = questions(rooms, of_rooms, self._user_id, after, wanted.state.lazy_load_members)
        state = state_of(self._snapshot, asked, wanted.state)
        return {room.room_id: _Told(of_rooms[room.room_id], state.get(room.room_id, [])) for room in rooms}

    def joined(self, typing: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """The section of rooms that the user is in."""
        told = {
            room.room_id: self._told[room.room_id]
            for room in self._joined
            if room.room_id in self._told and (room.whole or self._told[room.room_id].says_anything)
        }
        facts = self._facts(told)
        section: dict[str, Any] = {}
        for room in self._joined:
            room_id = room.room_id
            entry = facts.get(room_id, {})
            if room_id in told:
                entry = self._entry(told[room_id]) | entry
            ephemeral = self._ephemeral(room_id, typing)
            data = self.extras.account_data.get(room_id, [])
            if entry or ephemeral or data:
                section[room_id] = {**entry, "ephemeral": {"events": ephemeral}, "account_data": {"events": data}}
        return section

    def presence(self, news: PresenceNews) -> dict[str, dict[str, Any]]:
        """m.presence events by user: of those who share a room with this one, what changed or was not told before."""
        if news is NO_NEWS:
            return {}
        since = self._request.since
        came = [] if since is None else [room.room_id for room in self._joined if room.fresh]
        members = set() if since is None else self._members_told()
        if not (news.changed or came or members):
            return {}
        wanted = self._request.filter.presence
        found = told(self._snapshot, news, self._user_id, [room.room_id for room in self._joined], came, members)
        return {
            user_id: {"type": "m.presence", "sender": user_id, "content": presence.content(news.now_ms)}
            for user_id, presence in found.items()
            if wanted.takes_sender(user_id)
        }

    def _members_told(self) -> set[str]:
        """Whose membership the timelines of the user's rooms tell: they may have come."""
        return {
            event.state_key
            for room in self._joined
            if room.room_id in self._told
            for event in self._told[room.room_id].timeline.events
            if event.type == _MEMBER and event.state_key is not None
        }

    def _facts(self, told: Mapping[str, _Told]) -> dict[str, dict[str, Any]]:
        """Summaries and unread counts, where they may have changed."""
        joined = [room.room_id for room in self._joined]
        counted = [room_id for room_id in joined if room_id in told or room_id in self.extras.read_on]
        named = {
            room.room_id
            for room in self._joined
            if room.room_id in told and (room.whole or told[room.room_id].names_members)
        }
        facts = room_facts(self._snapshot, counted, named, self._user_id)
        events = [event for of_room in told.values() for event in of_room.timeline.events]
        counts = unread_counts(self._snapshot, facts, events, self._user_id)
        found: dict[str, dict[str, Any]] = {}
        for room_id in counted:
            count = counts[room_id]
            numbers = {"notification_count": count.notifications, "highlight_count": count.highlights}
            found[room_id] = {"unread_notifications": numbers}
            if room_id in told:
                found[room_id]["summary"] = facts[room_id].summary() if room_id in named else {}
        return found

    def _ephemeral(self, room_id: str, typing: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        wanted = self._request.filter.ephemeral
        if not wanted.takes_room(room_id):
            return []
        events: list[dict[str, Any]] = []
        if room_id in typing and wanted.takes_type("m.typing"):
            events.append({"type": "m.typing", "content": {"user_ids": list(typing[room_id])}})
        if room_id in self.extras.receipts:
            events.append({"type": "m.receipt", "content": self.extras.receipts[room_id]})
        return events

    def _entry(self, told: _Told) -> dict[str, Any]:
        after = self._request.use_state_after
        in_timeline = frozenset() if after else frozenset(event.event_id for event in told.timeline.events)
        state = [event for event in told.state if event.event_id not in in_timeline]
        return {
            "timeline": {
                "events": [self._shown(event) for event in told.timeline.events],
                "limited": told.timeline.limited,
                "prev_batch": told.timeline.prev_batch.pack(),
            },
            "state_after" if after else "state": {"events": [self._shown(event) for event in state]},
        }

    def _shown(self, event: EventRow) -> orjson.Fragment:
        text = shown(event, self._request.viewer)
        fields = self._request.filter.event_fields
        return orjson.Fragment(text if fields is None else only_fields(text, fields))

    def stripped(self) -> dict[str, dict[str, Any]]:
        """The sections of rooms that the user is invited to, or knocks at."""
        here = {room.room_id: room.own_event_id for room in self._others if room.preview is None}
        elsewhere = [room for room in self._others if room.preview is not None]
        state = stripped_state(self._snapshot, here) | previews(self._snapshot, elsewhere)
        unwanted = unwanted_inviters(self._snapshot, self._user_id) if self._others else None
        sections: dict[str, dict[str, Any]] = {"invite": {}, "knock": {}}
        for room in self._others:
            events = {"events": state.get(room.room_id, [])}
            if unwanted and room.membership == "invite" and unwanted.hides(events["events"], self._user_id):
                continue
            sections[room.membership][room.room_id] = {f"{room.membership}_state": events}
        return sections

    def left(self) -> dict[str, Any]:
        """The section of rooms that the user left, or was banned from."""
        data = self.extras.account_data
        return {
            room.room_id: self._entry(self._told[room.room_id])
            | {"account_data": {"events": data.get(room.room_id, [])}}
            for room in self._left
        } | {
            room_id: {
                "timeline": {"events": [self._shown(event)], "limited": False},
                "state": {"events": []},
                "account_data": {"events": data.get(room_id, [])},
            }
            for room_id, event in own_events(self._snapshot, self._left_elsewhere).items()
        }
