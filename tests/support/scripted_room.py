"""Rooms of a scripted server: whole, signed, of any version, with as many members as a test wants.

    async with RoomPeer(authority, folder) as peer:
        room = peer.make_room("10", members=50)
        room.template_lie = lambda answer: {**answer, "room_version": "7"}      # what make_… answers, changed
        room.answer_lie = lambda answer: {**answer, "state": []}                # what send_… answers, changed
        peer.breaks_off.add("send_join")                                        # the connection ends there

It answers make_join, send_join, make_knock, send_knock, make_leave and send_leave as a resident server would.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from annals.matrix.auth_events import auth_types_for
from annals.matrix.building import build_event
from annals.matrix.events import Event, StateKey, parse_event
from annals.matrix.hashing import reference_hash
from annals.matrix.room_versions import ROOM_VERSIONS, EventIdFormat, RoomRules
from annals.matrix.signing import SigningKey, sign_event
from tests.support.scripted_peer import Authority, Handler, Received, ScriptedPeer

MEMBER = "m.room.member"
PREFIX = "/_matrix/federation/"
Lie = Callable[[dict[str, Any]], Any]
Meanwhile = Callable[[], Awaitable[None]]
_numbers = itertools.count(1)


@dataclass
class ScriptedRoom:
    """One room, made by the server `server`. Change `lies` to have it answer something else."""

    version: str
    server: str
    key: SigningKey
    join_rule: dict[str, Any] = field(default_factory=lambda: {"join_rule": "public"})
    started_ms: int = field(default_factory=lambda: int(time.time() * 1000) - 100_000_000)
    room_id: str = ""
    head: Event | None = None
    template_lie: Lie = lambda answer: answer
    answer_lie: Lie = lambda answer: answer
    events: dict[str, Event] = field(default_factory=dict)
    state: dict[StateKey, Event] = field(default_factory=dict)
    sent: list[Event] = field(default_factory=list)
    """What other servers sent into it by send_…"""

    def __post_init__(self) -> None:
        content: dict[str, Any] = {"room_version": self.version}
        if self.rules.creator_in_content:
            content["creator"] = self.creator
        if not self.rules.room_id_is_create_hash:
            self.room_id = f"!scripted{next(_numbers)}x{self.started_ms}:{self.server}"
        create = self.add("m.room.create", self.creator, "", content)
        self.room_id = create.room_id
        self.add(MEMBER, self.creator, self.creator, {"membership": "join"})
        users = {} if self.rules.creators_have_infinite_power else {self.creator: 100}
        self.add("m.room.power_levels", self.creator, "", {"users": users})
        self.add("m.room.join_rules", self.creator, "", self.join_rule)

    @property
    def rules(self) -> RoomRules:
        """Of the room's version."""
        return ROOM_VERSIONS[self.version]

    @property
    def creator(self) -> str:
        """Who made it, and is in it."""
        return f"@creator:{self.server}"

    def build(
        self,
        event_type: str,
        sender: str,
        state_key: str | None,
        content: dict[str, Any],
        *,
        key: SigningKey | None = None,
        **other: Any,
    ) -> Event:
        """An event on the room's head that the room does not get. `other`: arguments of build_event."""
        auth = [self.state[k] for k in self._auth_keys(event_type, sender, state_key, content) if k in self.state]
        prev = [self.head] if self.head else []
        makes_room = self.rules.room_id_is_create_hash and event_type == "m.room.create"
        wanted: dict[str, Any] = {
            "room_id": None if makes_room else self.room_id,
            "sender": sender,
            "type": event_type,
            "content": content,
            "state_key": state_key,
            "prev_events": [event.event_id for event in prev],
            "auth_events": [event.event_id for event in auth],
            "depth": self.head.depth + 1 if self.head else 1,
            "origin_server_ts": self.started_ms + len(self.events),
            "server_name": self.server,
            "key": key or self.key,
            "reference_hashes": _hashes([*prev, *auth], self.rules),
        }
        return build_event(self.rules, **{**wanted, **other})

    def _auth_keys(self, event_type: str, sender: str, state_key: str | None, content: Any) -> Sequence[StateKey]:
        return auth_types_for(event_type, sender, state_key, content, self.rules)

    def add(self, event_type: str, sender: str, state_key: str | None, content: dict[str, Any]) -> Event:
        """One more event of the room, on its head."""
        return self.take(self.build(event_type, sender, state_key, content))

    def take(self, event: Event) -> Event:
        """Let an event be the room's head, and part of its state."""
        self.events[event.event_id] = event
        self.head = event
        if event.state_key is not None:
            self.state[event.key] = event
        return event

    def member(self, name: str, **content: Any) -> Event:
        """Somebody of this server joins."""
        user = f"@{name}:{self.server}"
        return self.add(MEMBER, user, user, {"membership": "join", **content})

    def say(self, text: str) -> Event:
        """The creator says something."""
        return self.add("m.room.message", self.creator, None, {"msgtype": "m.text", "body": text})

    def auth_chain(self, events: Sequence[Event]) -> list[Event]:
        """All that these cite, directly or not."""
        found: dict[str, Event] = {}
        open_ones = [event_id for event in events for event_id in event.auth_events]
        while open_ones:
            event_id = open_ones.pop()
            if event_id not in found:
                found[event_id] = self.events[event_id]
                open_ones += found[event_id].auth_events
        return list(found.values())

    def template(self, user: str, membership: str) -> dict[str, Any]:
        """What make_… answers, before any lie."""
        content: dict[str, Any] = {"membership": membership}
        if membership == "join" and self.join_rule["join_rule"] in ("restricted", "knock_restricted"):
            content["join_authorised_via_users_server"] = self.creator
        event = self.build(MEMBER, user, user, content)
        pdu = {key: value for key, value in event.pdu.items() if key not in ("hashes", "signatures", "event_id")}
        return {"room_version": self.version, "event": pdu}

    def accept(self, pdu: dict[str, Any]) -> dict[str, Any]:
        """Take an event that was sent by send_…; the answer, before any lie."""
        event = parse_event(pdu, self.rules)
        membership = event.content["membership"]
        if "join_authorised_via_users_server" in event.content:
            event = parse_event(sign_event(pdu, self.rules, self.server, self.key), self.rules)
        state = list(self.state.values())
        self.take(event)
        self.sent.append(event)
        if membership == "knock":
            shown = ("m.room.create", "m.room.join_rules", "m.room.name")
            return {"knock_room_state": [held.pdu for held in state if held.type in shown]}
        if membership != "join":
            return {}
        chain = self.auth_chain([*state, event])
        return {
            "origin": self.server,
            "state": [held.pdu for held in state],
            "auth_chain": [held.pdu for held in chain],
            "event": event.pdu,
        }


def _hashes(events: Sequence[Event], rules: RoomRules) -> dict[str, str]:
    if rules.event_id_format is not EventIdFormat.CHOSEN_BY_SENDER:
        return {}
    return {event.event_id: reference_hash(event.pdu, rules) for event in events}


async def _taken(_: web.Request) -> web.StreamResponse:
    return web.json_response({"pdus": {}})


class RoomPeer(ScriptedPeer):
    """A scripted server that has rooms. Its name is an address, so that servers outside of the test find it."""

    def __init__(self, authority: Authority, folder: Path, host: str = "127.0.0.1") -> None:
        super().__init__(authority, folder, host)
        self.now_ms = lambda: int(time.time() * 1000)
        self.rooms: dict[str, ScriptedRoom] = {}
        self.breaks_off: set[str] = set()
        """Endpoints (make_join …) at which the connection ends without an answer."""
        self.refuses: dict[str, tuple[int, dict[str, Any]]] = {}
        """Endpoints that answer an error: status and body."""
        self.has_v2 = True
        self.takes_transactions = False
        """Whether it takes whatever is put to it; 404 otherwise."""
        self.before_answer: Meanwhile | None = None
        """Awaited before an answer of send_…"""

    @property
    def key(self) -> SigningKey:
        """The key it signs with."""
        first = self.keys[0]
        return SigningKey(f"ed25519:{first.version}", bytes(first))

    def make_room(self, version: str = "10", members: int = 0, **settings: Any) -> ScriptedRoom:
        """A room of this server, with so many more members than its creator."""
        room = ScriptedRoom(version, self.name, self.key, **settings)
        for number in range(members):
            room.member(f"member{number}")
        self.rooms[room.room_id] = room
        return room

    def asked_to_make(self) -> list[Received]:
        """The requests for templates."""
        return [request for request in self.requests if "/make_" in request.target]

    def _default(self, request: web.Request) -> Handler | None:
        if self.takes_transactions and request.path.startswith(f"{PREFIX}v1/send/"):
            return _taken
        parts = request.path.removeprefix(PREFIX).split("/", 2)
        if not request.path.startswith(PREFIX) or len(parts) != 3:
            return super()._default(request)
        api_version, endpoint, rest = parts
        room_id, _, last = rest.partition("/")

        async def serve(got: web.Request) -> web.StreamResponse:
            return await self._answer(got, api_version, endpoint, room_id, last)

        return serve if endpoint.startswith(("make_", "send_")) else super()._default(request)

    async def _answer(
        self, request: web.Request, api_version: str, endpoint: str, room_id: str, last: str
    ) -> web.StreamResponse:
        if endpoint in self.breaks_off:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if endpoint in self.refuses:
            status, body = self.refuses[endpoint]
            return web.json_response(body, status=status)
        step, _, membership = endpoint.partition("_")
        is_first = api_version == "v1"
        if not is_first and not self.has_v2:
            return web.json_response({"errcode": "M_UNRECOGNIZED", "error": "no such version"}, status=404)
        room = self.rooms.get(room_id)
        if room is None:
            return web.json_response({"errcode": "M_NOT_FOUND", "error": "no such room"}, status=404)
        if step == "make":
            return web.json_response(room.template_lie(room.template(last, membership)))
        answer = room.accept(await request.json())
        if self.before_answer is not None:
            await self.before_answer()
        told = room.answer_lie(answer)
        return web.json_response([200, told] if is_first and membership != "knock" else told)
