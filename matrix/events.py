"""The event as everything above `matrix/` sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from annals.matrix.format import check_format, is_create
from annals.matrix.hashing import event_id as id_of
from annals.matrix.identifiers import is_event_id
from annals.matrix.quick import maker, quick
from annals.matrix.record_parts import body, merge, skeleton
from annals.matrix.room_versions import EventIdFormat, RoomRules

__all__ = ["Event", "StateKey", "body", "event_of", "merge", "parse_event", "skeleton"]

StateKey = tuple[str, str]
"""(event type, state key): what room state maps to an event."""


@quick
@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """One Matrix event. `pdu` and `content` are shared and must not be changed by anyone."""

    event_id: str
    room_id: str
    """Always filled: a version-12 create has none on the wire, its room id is its event id with the sigil `!`."""
    rules: RoomRules
    type: str
    sender: str
    state_key: str | None
    content: dict[str, Any]
    prev_events: tuple[str, ...]
    auth_events: tuple[str, ...]
    depth: int
    origin_server_ts: int
    """Milliseconds, by the sender's clock."""
    redacts: str | None
    """The id of the event that an m.room.redaction takes the content of, wherever this room version keeps it."""
    pdu: dict[str, Any]
    """The event exactly as on the wire."""

    @property
    def is_state(self) -> bool:
        """Whether this is a state event."""
        return self.state_key is not None

    @property
    def key(self) -> StateKey:
        """(type, state_key) of a state event."""
        if self.state_key is None:
            raise ValueError(f"{self.event_id} is not a state event")
        return self.type, self.state_key

    def __eq__(self, other: object) -> bool:
        """Equal if it is the same event in the same form (an event and its redacted form share an id)."""
        if not isinstance(other, Event):
            return NotImplemented
        return self.event_id == other.event_id and self.rules is other.rules and self.pdu == other.pdu

    def __hash__(self) -> int:
        return hash(self.event_id)

    def __repr__(self) -> str:
        return f"Event({self.event_id}, {self.type!r}, {self.state_key!r}, {self.sender})"


_made = maker(Event)


def parse_event(pdu: dict[str, Any], rules: RoomRules, event_id: str | None = None) -> Event:
    """The event in a PDU from anywhere: checks format and size (raises `InvalidEvent`), computes the id if not given.

    Hashes and signatures are not checked here.
    """
    check_format(pdu, rules)
    return event_of(pdu, rules, event_id or id_of(pdu, rules))


def event_of(pdu: dict[str, Any], rules: RoomRules, event_id: str) -> Event:
    """The event in a PDU that passed `parse_event` before (one from our log or tables), under its known id."""
    content, event_type = pdu["content"], pdu["type"]
    redacts = None
    if event_type == "m.room.redaction":
        # v11+: "The `redacts` property of m.room.redaction events is moved ... to a property under the event content"
        named = (content if rules.redacts_in_content else pdu).get("redacts")
        redacts = named if type(named) is str and is_event_id(named) else None
    event: Event = _made(
        event_id=event_id,
        # v12: the room id is the create's own hash; it never enters the hashed JSON.
        room_id="!" + event_id[1:] if rules.room_id_is_create_hash and is_create(pdu) else pdu["room_id"],
        rules=rules,
        type=event_type,
        sender=pdu["sender"],
        state_key=pdu.get("state_key"),
        content=content,
        prev_events=_references(pdu["prev_events"], rules),
        auth_events=_references(pdu["auth_events"], rules),
        depth=pdu["depth"],
        origin_server_ts=pdu["origin_server_ts"],
        redacts=redacts,
        pdu=pdu,
    )
    return event


def _references(references: list[Any], rules: RoomRules) -> tuple[str, ...]:
    if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER:
        return tuple(event_id for event_id, _hashes in references)
    return tuple(references)
