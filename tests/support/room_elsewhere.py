"""A room of another server that ours knows nothing of: its events, and invites from it."""

from __future__ import annotations

import time
from typing import Any

from annals.matrix.auth_events import auth_types_for
from annals.matrix.building import build_event
from annals.matrix.events import Event, StateKey
from annals.matrix.room_versions import ROOM_VERSIONS
from tests.support.remote_server import RemoteServer
from tests.support.server import quoted

_SHOWN = ("m.room.create", "m.room.join_rules", "m.room.name")


class RoomElsewhere:
    """`state` has its current state; every event follows the one before."""

    def __init__(self, remote: RemoteServer, version: str = "12", name: str = "Elsewhere") -> None:
        self.remote, self.version = remote, version
        self.rules = ROOM_VERSIONS[version]
        self.creator = remote.user("creator")
        self.state: dict[StateKey, Event] = {}
        self.last: Event | None = None
        self.room_id = "" if self.rules.room_id_is_create_hash else f"!{remote.user('room')[1:]}"
        content: dict[str, Any] = {"room_version": version}
        if self.rules.creator_in_content:
            content["creator"] = self.creator
        self.room_id = self.add("m.room.create", content, "").room_id
        self.add("m.room.member", {"membership": "join"}, self.creator)
        levels = {} if self.rules.creators_have_infinite_power else {self.creator: 100}
        self.add("m.room.power_levels", {"users": levels}, "")
        self.add("m.room.join_rules", {"join_rule": "invite"}, "")
        self.add("m.room.name", {"name": name}, "")

    def build(self, event_type: str, content: dict[str, Any], state_key: str | None = None, **changes: Any) -> Event:
        """An event of the creator upon the last one."""
        prev = [self.last.event_id] if self.last else []
        keys = auth_types_for(event_type, self.creator, state_key, content, self.rules) if prev else []
        auth = [self.state[key].event_id for key in keys if key in self.state]
        makes_room = event_type == "m.room.create" and self.rules.room_id_is_create_hash
        given: dict[str, Any] = {
            "room_id": None if makes_room else self.room_id,
            "sender": self.creator,
            "type": event_type,
            "content": content,
            "state_key": state_key,
            "prev_events": prev,
            "auth_events": auth,
            "depth": self.last.depth + 1 if self.last else 1,
            "origin_server_ts": time.time_ns() // 1_000_000,
            "server_name": self.remote.name,
            "key": self.remote.key,
            **changes,
        }
        return build_event(self.rules, reference_hashes=dict.fromkeys([*prev, *auth], "A" * 43), **given)

    def add(self, event_type: str, content: dict[str, Any], state_key: str | None = None) -> Event:
        """The same, and it stays."""
        event = self.build(event_type, content, state_key)
        self.last = event
        if event.is_state:
            self.state[event.key] = event
        return event

    def invitation(self, user_id: str, **content: Any) -> Event:
        """An invite that nobody has signed but the room's server."""
        return self.build("m.room.member", {"membership": "invite", **content}, user_id)

    def shown(self) -> list[dict[str, Any]]:
        """What is sent along with an invite: PDUs."""
        return [self.state[event_type, ""].pdu for event_type in _SHOWN]

    def hand_in(self, invite: Event, path: str = "v2", **changes: Any) -> tuple[int, Any]:
        """PUT v2/invite; `changes` of the body, None for what is left out."""
        body = {"event": invite.pdu, "room_version": self.version, "invite_room_state": self.shown(), **changes}
        body = {key: value for key, value in body.items() if value is not None}
        room_id, event_id = quoted(invite.room_id), quoted(invite.event_id)
        if path == "v1":
            body = {**invite.pdu, "unsigned": {"invite_room_state": body["invite_room_state"]}}
        return self.remote.call("PUT", f"/_matrix/federation/{path}/invite/{room_id}/{event_id}", body)
