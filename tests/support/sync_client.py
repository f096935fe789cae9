"""A client as the specification wants it: what it was shown, kept by room, with every gap filled through /messages."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field
from typing import Any

from annals.queries.errors import NoAccess
from tests.support.rooms import Driver
from tests.support.sync_world import World, ids

StateKey = tuple[str, str]


@dataclass
class KnownRoom:
    """What the client has of one room that it is in."""

    state: dict[StateKey, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    #: who sent what its timelines showed
    senders: set[str] = field(default_factory=set)


@dataclass
class SyncClient:
    """`exact`: it asks for state_after; else state and timeline make the state. `lazy`: members with their messages."""

    world: World
    name: str
    exact: bool
    lazy: bool
    token: str | None = None
    rooms: dict[str, KnownRoom] = field(default_factory=dict)
    #: everything it was ever shown, of rooms that it left since, too
    ever_seen: set[str] = field(default_factory=set)

    def sync(self, rng: random.Random, limit: int) -> None:
        """Sync once, fill the gaps, and keep what came."""
        answer = self.world.sync(self.name, self.token, limit=limit, lazy=self.lazy, use_state_after=self.exact)
        sections = answer.get("rooms", {})
        for room in self.world.rooms:
            if (shown := sections.get("join", {}).get(room.room_id)) and "timeline" in shown:
                self._joined(room, shown, rng)
            if shown := sections.get("leave", {}).get(room.room_id):
                self._left(room, shown)
            if any(room.room_id in sections.get(name, {}) for name in ("invite", "knock")):
                # A room stands in one section, by what the user is now: invited again means no longer in it.
                self.rooms.pop(room.room_id, None)
        self.token = answer["next_batch"]

    def _joined(self, room: Driver, shown: dict[str, Any], rng: random.Random) -> None:
        known = self.rooms.get(room.room_id)
        is_new = known is None
        known = self.rooms.setdefault(room.room_id, KnownRoom())
        if shown["timeline"]["limited"]:
            stop = None if is_new else self.token
            start = shown["timeline"]["prev_batch"]
            gap = self.world.page_back(self.name, room, start, stop, limit=rng.randint(1, 6))
            self._see(known, ids(gap)[::-1])
        self._see(known, ids(shown["timeline"]))
        known.senders.update(event["sender"] for event in shown["timeline"]["events"])
        for event in shown["state_after" if self.exact else "state"]["events"]:
            known.state[event["type"], event["state_key"]] = event["event_id"]
        if not self.exact:
            for event in shown["timeline"]["events"]:
                if "state_key" in event:
                    known.state[event["type"], event["state_key"]] = event["event_id"]

    def _left(self, room: Driver, shown: dict[str, Any]) -> None:
        self.rooms.pop(room.room_id, None)
        self.ever_seen.update(ids(shown["timeline"]))
        if shown["timeline"]["limited"]:
            # Who was invited or banned, but never in the room, may not page.
            with contextlib.suppress(NoAccess):
                start = shown["timeline"]["prev_batch"]
                self.ever_seen.update(ids(self.world.page_back(self.name, room, start, None)))

    def _see(self, known: KnownRoom, event_ids: list[str]) -> None:
        repeated = set(known.seen) & set(event_ids)
        assert not repeated, f"{self.name} was shown again: {repeated}"
        assert len(set(event_ids)) == len(event_ids), f"{self.name} was shown twice in one answer: {event_ids}"
        known.seen += event_ids
        self.ever_seen.update(event_ids)
