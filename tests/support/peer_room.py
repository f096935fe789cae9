"""A room of a scripted peer: its events are made and signed here, and it answers about them as a good server would.

A test replaces single answers (`peer.on`) to make it a bad one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from annals.matrix.auth_events import auth_types_for
from annals.matrix.building import build_event
from annals.matrix.events import Event, StateKey
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.matrix.signing import SigningKey
from tests.support.scripted_peer import ScriptedPeer, reference_key

_FEDERATION = "/_matrix/federation/v1"
NOW_MS = 1_700_000_000_000


def signing_key(peer: ScriptedPeer, seed: int = 5) -> SigningKey:
    """Give the peer a key that we know too, so that events can be signed with it."""
    secret = bytes([seed]) * 32
    peer.keys = [reference_key("a_1", secret)]
    return SigningKey("ed25519:a_1", secret)


class PeerRoom:
    """The room; `events` by id, `state_before` of each as the peer knows it."""

    def __init__(self, peer: ScriptedPeer, version: str = "10", name: str = "room", seed: int = 5) -> None:
        self.peer, self.rules = peer, ROOM_VERSIONS[version]
        self.keys: dict[str, SigningKey] = {peer.name: signing_key(peer, seed)}
        self.events: dict[str, Event] = {}
        self.state_before: dict[str, dict[StateKey, str]] = {}
        self.creator = f"@creator:{peer.name}"
        self.room_id: str | None = None if self.rules.room_id_is_create_hash else f"!{name}:{peer.name}"
        content: dict[str, Any] = {"room_version": version}
        if self.rules.creator_in_content:
            content["creator"] = self.creator
        self.create = self.event("m.room.create", content, "", prev=())
        self.room_id = self.create.room_id
        self.join(self.creator)
        users = {} if self.rules.room_id_is_create_hash else {self.creator: 100}
        self.event("m.room.power_levels", {"users": users}, "")
        self.event("m.room.join_rules", {"join_rule": "public"}, "")
        self.event("m.room.history_visibility", {"history_visibility": "shared"}, "")
        self._serve()

    @property
    def id(self) -> str:
        """The room's id."""
        assert self.room_id is not None
        return self.room_id

    @property
    def last(self) -> Event:
        """The event made last."""
        return next(reversed(self.events.values()))

    def join(self, user_id: str) -> Event:
        """A join of a user."""
        return self.event("m.room.member", {"membership": "join"}, user_id, sender=user_id)

    def say(self, text: str, **more: Any) -> Event:
        """A message."""
        return self.event("m.room.message", {"msgtype": "m.text", "body": text}, **more)

    def talk(self, count: int) -> list[Event]:
        """Messages, one after the other."""
        return [self.say(f"number {number}") for number in range(count)]

    def event(
        self,
        event_type: str,
        content: dict[str, Any],
        state_key: str | None = None,
        *,
        sender: str | None = None,
        prev: Sequence[Event] | None = None,
        auth: Sequence[str] | None = None,
        key: SigningKey | None = None,
        known: bool = True,
    ) -> Event:
        """An event behind the last one, or behind `prev`. `known` False: the peer does not tell of it."""
        sender = sender or self.creator
        before = [self.last] if prev is None and self.events else list(prev or ())
        state = self.state_after(before[0]) if before else {}
        server = sender.partition(":")[2]
        types = auth_types_for(event_type, sender, state_key, content, self.rules)
        cited = [state[of] for of in types if of in state] if auth is None else list(auth)
        if not self.rules.create_cited_in_auth_events:
            cited = [event_id for event_id in cited if event_id != self.create.event_id]
        made = build_event(
            self.rules,
            room_id=self.room_id,
            sender=sender,
            type=event_type,
            content=content,
            state_key=state_key,
            prev_events=[event.event_id for event in before],
            auth_events=cited,
            depth=max((event.depth for event in before), default=0) + 1,
            origin_server_ts=NOW_MS + len(self.events),
            server_name=server,
            key=key or self.keys[server],
        )
        self.state_before[made.event_id] = state
        if known:
            self.take(made)
        return made

    def take(self, event: Event, state: dict[StateKey, str] | None = None) -> None:
        """The peer has this event from now on."""
        self.events[event.event_id] = event
        if state is not None:
            self.state_before[event.event_id] = state
        self.peer.on("GET", f"{_FEDERATION}/event/{event.event_id}", {"pdus": [event.pdu]})

    def state_after(self, event: Event) -> dict[StateKey, str]:
        """The state after an event."""
        state = self.state_before[event.event_id]
        return {**state, event.key: event.event_id} if event.is_state else state

    def auth_chain(self, event_ids: Sequence[str]) -> list[str]:
        """The auth chain of events, without them."""
        found: dict[str, None] = {}
        todo = [other for event_id in event_ids for other in self.events[event_id].auth_events]
        while todo:
            event_id = todo.pop()
            if event_id not in found:
                found[event_id] = None
                todo += self.events[event_id].auth_events
        return list(found)

    def before(self, starts: Sequence[str], stops: Sequence[str], limit: int) -> list[Event]:
        """Events from `starts` on backwards, oldest first."""
        found: dict[str, Event] = {}
        todo = list(starts)
        while todo and len(found) < limit:
            event_id = todo.pop(0)
            if event_id in self.events and event_id not in found and event_id not in stops:
                found[event_id] = self.events[event_id]
                todo += self.events[event_id].prev_events
        return list(reversed(found.values()))

    def path(self, what: str, *more: str) -> str:
        """The path of a question about this room."""
        return "/".join((_FEDERATION, what, self.id, *more))

    def asked(self, what: str) -> int:
        """How many requests for a kind of question the peer got."""
        return sum(request.target.startswith(f"{_FEDERATION}/{what}/") for request in self.peer.requests)

    def serve_auth_of(self, event: Event) -> None:
        """Answer /event_auth of this event."""
        pdus = [self.events[i].pdu for i in (*event.auth_events, *self.auth_chain(event.auth_events))]
        self.peer.on("GET", self.path("event_auth", event.event_id), {"auth_chain": pdus})

    def _serve(self) -> None:
        self.peer.on("POST", self.path("get_missing_events"), self._missing)
        self.peer.on("GET", self.path("backfill"), self._backfill)
        self.peer.on("GET", self.path("state_ids"), self._state_ids)
        self.peer.on("GET", self.path("state"), self._state)

    async def _missing(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        starts = [
            other
            for event_id in asked["latest_events"]
            if event_id in self.state_before
            for other in self._prev(event_id)
        ]
        found = self.before(starts, asked["earliest_events"], min(asked["limit"], 20))
        return web.json_response({"events": [event.pdu for event in found]})

    def _prev(self, event_id: str) -> tuple[str, ...]:
        return self.events[event_id].prev_events if event_id in self.events else ()

    async def _backfill(self, request: web.Request) -> web.StreamResponse:
        found = self.before(request.query.getall("v"), (), int(request.query["limit"]))
        pdus = [event.pdu for event in reversed(found)]
        return web.json_response({"origin": self.peer.name, "origin_server_ts": NOW_MS, "pdus": pdus})

    async def _state_ids(self, request: web.Request) -> web.StreamResponse:
        if request.query["event_id"] not in self.events:
            return web.json_response({"errcode": "M_NOT_FOUND", "error": "no"}, status=404)
        state = list(self.state_before[request.query["event_id"]].values())
        return web.json_response({"pdu_ids": state, "auth_chain_ids": self.auth_chain(state)})

    async def _state(self, request: web.Request) -> web.StreamResponse:
        state = list(self.state_before[request.query["event_id"]].values())
        chain = self.auth_chain(state)
        return web.json_response(
            {"pdus": [self.events[i].pdu for i in state], "auth_chain": [self.events[i].pdu for i in chain]}
        )
