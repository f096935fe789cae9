"""Events of one room with readable ids, for tests of the rules: no keys, no hashes, only what a rule reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from annals.matrix.auth_events import auth_types_for
from annals.matrix.events import Event, StateKey, event_of
from annals.matrix.room_versions import ROOM_VERSIONS, EventIdFormat, RoomRules

State = dict[StateKey, Event]


def user(name: str) -> str:
    """@alice:a of "alice": the server is the first letter, so that names tell servers apart."""
    return name if name.startswith("@") else f"@{name}:{name[0]}"


class RoomEvents:
    """Makes events of a room that alice created. `event` and the rest return them; nothing is judged."""

    def __init__(self, version: str, creator: str = "alice", content: dict[str, Any] | None = None) -> None:
        self.rules: RoomRules = ROOM_VERSIONS[version]
        self.events: dict[str, Event] = {}
        content = {"room_version": version} | (content or {})
        if self.rules.creator_in_content:
            content = {"creator": user(creator)} | content
        self.room_id = "!CREATE" if self.rules.room_id_is_create_hash else f"!room:{user(creator).partition(':')[2]}"
        self.create = self.event("$CREATE", "m.room.create", creator, "", content, prev=(), auth=())

    def event(
        self,
        event_id: str,
        event_type: str,
        sender: str,
        state_key: str | None,
        content: dict[str, Any],
        *,
        prev: Sequence[str] = ("$PREV",),
        auth: Iterable[Event] = (),
        ts_ms: int | None = None,
        room_id: str | None = None,
    ) -> Event:
        """An event; by default each is a millisecond later than the one before."""
        pdu: dict[str, Any] = {
            "type": event_type,
            "sender": user(sender),
            "content": content,
            "prev_events": self._references(prev),
            "auth_events": self._references(event.event_id for event in auth),
            "depth": len(self.events) + 1,
            "origin_server_ts": len(self.events) + 1 if ts_ms is None else ts_ms,
            "hashes": {"sha256": ""},
            "signatures": {user(sender).partition(":")[2]: {"ed25519:1": ""}},
        }
        if self._ids_are_chosen:
            pdu["event_id"] = event_id
        if state_key is not None:
            pdu["state_key"] = state_key
        makes_room = event_type == "m.room.create" and state_key == "" and self.rules.room_id_is_create_hash
        if room_id is not None or not makes_room:
            pdu["room_id"] = room_id or self.room_id
        event = event_of(pdu, self.rules, event_id)
        self.events[event_id] = event
        return event

    @property
    def _ids_are_chosen(self) -> bool:
        return self.rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER

    def _references(self, event_ids: Iterable[str]) -> list[Any]:
        return [[event_id, {"sha256": ""}] if self._ids_are_chosen else event_id for event_id in event_ids]

    def state(self, event_type: str, state_key: str, sender: str, content: dict[str, Any]) -> Event:
        """A state event for an auth map, where its id does not matter."""
        return self.event(f"${event_type}|{state_key}", event_type, sender, state_key, content)

    def member(self, name: str, membership: str, sender: str | None = None) -> Event:
        """A membership for an auth map."""
        return self.state("m.room.member", user(name), sender or name, {"membership": membership})

    def cite(
        self, state: State, event_type: str, sender: str, state_key: str | None, content: dict[str, Any]
    ) -> list[Event]:
        """What an honest server cites in such an event."""
        keys = auth_types_for(event_type, user(sender), state_key, content, self.rules)
        return [state[key] for key in keys if key in state]


def state_of(events: Iterable[Event]) -> State:
    """The state that these events make, later ones over earlier ones."""
    return {event.key: event for event in events}
