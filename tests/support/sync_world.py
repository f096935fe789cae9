"""Rooms on a real log and real tables, read through /sync and /messages: the loop folds whenever something was said.

world = World(log, url)
room = world.room()                            # a public room of alice's
world.say(room, "alice", "hello")
answer = world.sync("alice")                   # parsed JSON
world.sync("alice", answer["next_batch"], limit=5)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson

from annals.database.pool import Database
from annals.eventlog.api import Log
from annals.matrix.events import Event
from annals.projectors.loop import Loop
from annals.queries.client_events import Viewer
from annals.queries.messages import Messages, MessagesWanted
from annals.queries.places import PlaceReader
from annals.queries.sync.filters import event_filter, sync_filter
from annals.queries.sync.presence import NO_NEWS
from annals.queries.sync.reader import read_sync
from annals.queries.sync.request import SyncRequest
from annals.queries.sync.token import log_mark, unpack
from annals.rooms.heads import Intent
from annals.schemas.facts.receipts import ReceiptSet
from annals.schemas.facts.rooms import RoomFact
from tests.support.projectors import append, connector, envelope, running
from tests.support.room_traffic import numbered_room
from tests.support.rooms import Driver, created, received, user

NOW_MS = 1_700_000_000_000


class World:
    """`rooms`: what the machine itself makes of each room's facts, in memory."""

    def __init__(self, log: Log, database: Database, loop: Loop) -> None:
        self.log = log
        self.database = database
        self.loop = loop
        self.rooms: list[Driver] = []
        self._messages = Messages(database, PlaceReader(log.log_id))
        self._told: dict[str, int] = {}
        self._held: list[Any] | None = None

    def room(self, version: str = "12") -> Driver:
        """A public room that alice made, of another id each time."""
        made = numbered_room(version, len(self.rooms))
        self.rooms.append(made)
        self.settle(made)
        return made

    def settle(self, room: Driver) -> None:
        """Log and fold what the room's driver was fed since the last time."""
        told = self._told.get(room.room_id, 0)
        facts = list(room.tables.facts.values())[told:]
        self._told[room.room_id] = told + len(facts)
        self.put(*facts)

    def put(self, *facts: Any) -> None:
        """Log facts and fold them."""
        if self._held is not None:
            self._held.extend(facts)
            return
        append(self.log, facts)
        self.loop.catch_up()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is said meanwhile is logged and folded at the end, all together: quicker."""
        self._held = []
        yield
        held, self._held = self._held, None
        self.put(*held)

    def feed(self, room: Driver, *facts: RoomFact) -> None:
        """Log facts of a room, in this order."""
        room.feed(*facts)
        self.settle(room)

    def send(
        self, room: Driver, name: str, event_type: str, content: Mapping[str, Any], state_key: str | None = None
    ) -> Event:
        """An event of a user of ours on the room's head; the room's rules say what becomes of it."""
        event = self.build(room, name, event_type, content, state_key)
        self.feed(room, created(event))
        return event

    def say(self, room: Driver, name: str, body: str = "hello") -> Event:
        """A message."""
        return self.send(room, name, "m.room.message", {"msgtype": "m.text", "body": body})

    def member(self, room: Driver, sender: str, membership: str, target: str | None = None) -> Event:
        """A change of membership: of the sender's own, or of another user's."""
        return self.send(room, sender, "m.room.member", {"membership": membership}, user(target or sender))

    def build(
        self, room: Driver, name: str, event_type: str, content: Mapping[str, Any], state_key: str | None = None
    ) -> Event:
        """An event on the room's head that nobody hears of yet."""
        rules = room.view.known_header().rules
        assert rules
        intent = Intent(user(name), event_type, dict(content), state_key)
        return room.build(intent, rules, NOW_MS + room.offset)

    def fork(self, room: Driver, *events: Event) -> None:
        """Events of another server's, all built on what was the head when `build` made them."""
        self.feed(room, *(received(event) for event in events))

    def read(self, room: Driver, name: str, event: Event, receipt_type: str = "m.read") -> None:
        """A read receipt."""
        key = f"{name}{event.event_id}{receipt_type}"
        receipt = ReceiptSet(envelope(1, key), room.room_id, user(name), receipt_type, event.event_id, None, NOW_MS)
        self.put(receipt)

    def sync(
        self, name: str, since: str | None = None, definition: Mapping[str, Any] | None = None, **more: Any
    ) -> Any:
        """A /sync answer. `more`: limit=, lazy= for the filter, and the flags of SyncRequest."""
        room_filter = {
            "timeline": {"limit": more.pop("limit", 10)},
            "state": {"lazy_load_members": more.pop("lazy", False)},
            "include_leave": more.pop("include_leave", False),
        }
        chosen = sync_filter(definition if definition is not None else {"room": room_filter})
        token = unpack(since) if since else None
        typing, presence = more.pop("typing", {}), more.pop("presence", NO_NEWS)
        request = SyncRequest(Viewer(user(name), "DEVICE", NOW_MS), token, chosen, **more)
        mark = log_mark(self.log.log_id)
        answer = self.database.read_now(lambda s: read_sync(s, request, mark, typing, 0, presence))
        return orjson.loads(orjson.dumps(answer.body)) | {"empty": answer.empty}

    def messages(self, name: str, room: Driver, **wanted: Any) -> Any:
        """A page of /messages. `wanted`: the fields of MessagesWanted."""
        viewer = Viewer(user(name), "DEVICE", NOW_MS)
        wanted.setdefault("backwards", True)
        wanted["filter"] = event_filter(wanted.pop("filter", {}))
        return orjson.loads(asyncio.run(self._messages.messages(viewer, room.room_id, MessagesWanted(**wanted))))

    def page_back(self, name: str, room: Driver, start: str | None, stop: str | None, limit: int = 7) -> list[Any]:
        """All events from one token back to another, page by page, newest first."""
        events: list[Any] = []
        for _ in range(1_000):
            page = self.messages(name, room, from_token=start, to_token=stop, limit=limit)
            events += page["chunk"]
            start = page.get("end")
            if start is None:
                return events
        raise AssertionError("pages without end")


@contextmanager
def sync_world(log: Log, url: str) -> Iterator[World]:
    """A world over empty tables and an empty log."""
    database = Database(url, threads=2)
    try:
        with running(log, connector(url)) as loop:
            yield World(log, database, loop)
    finally:
        database.close()


def ids(events: Any) -> list[str]:
    """Event ids of a list of events, or of a section of a room."""
    found = events["events"] if isinstance(events, dict) else events
    return [event["event_id"] for event in found]
