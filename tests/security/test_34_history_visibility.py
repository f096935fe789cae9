"""Row 34: each setting of history visibility, each kind of reader, each way to read."""

from __future__ import annotations

import pytest

from tests.support.accounts import Account
from tests.support.servers import Serve

#: What each reader may see of what was said (before they were invited, while invited, while in it, after they left).
EXPECTED = {
    "world_readable": {"stranger": "1111", "invited": "1111", "joined": "1111", "left": "1111"},
    "shared": {"stranger": "0000", "invited": "0000", "joined": "1111", "left": "1110"},
    "invited": {"stranger": "0000", "invited": "0111", "joined": "0111", "left": "0110"},
    "joined": {"stranger": "0000", "invited": "0000", "joined": "0011", "left": "0010"},
}


@pytest.mark.parametrize("visibility", sorted(EXPECTED))
def test_every_reader_by_every_way(server: Serve, visibility: str) -> None:
    alice = Account.new(server.port, "alice")
    readers = {name: Account.new(server.port, name) for name in EXPECTED[visibility]}
    room_id = alice.create()
    alice.put_state(room_id, "m.room.history_visibility", {"history_visibility": visibility})
    said = [alice.say(room_id, "before")]
    for name in ("invited", "joined", "left"):
        alice.member(room_id, "invite", readers[name])
    said.append(alice.say(room_id, "while invited"))
    for name in ("joined", "left"):
        readers[name].member(room_id, "join")
    said.append(alice.say(room_id, "while joined"))
    readers["left"].member(room_id, "leave")
    said.append(alice.say(room_id, "after"))
    for name, expected in EXPECTED[visibility].items():
        reader = readers[name]
        for way in (by_event, by_context, by_messages, by_sync):
            seen = way(reader, room_id, said)
            allowed = {event_id for event_id, flag in zip(said, expected, strict=True) if flag == "1"}
            if way is by_messages and name == "invited" and visibility != "world_readable":
                # A timeline is paged through by those who are or were in the room.
                allowed = set()
            if way is by_sync and name != "joined":
                # A /sync shows rooms that the user was in, up to the leave.
                allowed = allowed & set(said[:3]) if name == "left" else set()
            assert seen == allowed, (name, way.__name__)


def by_event(reader: Account, room_id: str, said: list[str]) -> set[str]:
    return {i for i in said if reader.call("GET", f"/rooms/{room_id}/event/{i}")[0] == 200}


def by_context(reader: Account, room_id: str, said: list[str]) -> set[str]:
    """Every event that any context shows."""
    seen = set()
    for event_id in said:
        status, answer = reader.call("GET", f"/rooms/{room_id}/context/{event_id}", limit=50)
        if status == 200:
            shown = [answer["event"], *answer["events_before"], *answer["events_after"]]
            seen |= {event["event_id"] for event in shown} & set(said)
    return seen


def by_messages(reader: Account, room_id: str, said: list[str]) -> set[str]:
    seen: set[str] = set()
    for direction in ("b", "f"):
        status, answer = reader.call("GET", f"/rooms/{room_id}/messages", dir=direction, limit=100)
        if status == 200:
            seen |= {event["event_id"] for event in answer["chunk"]} & set(said)
    return seen


def by_sync(reader: Account, room_id: str, said: list[str]) -> set[str]:
    answer = reader.done("GET", "/sync", filter='{"room":{"include_leave":true,"timeline":{"limit":50}}}')
    rooms = answer.get("rooms", {})
    shown = rooms.get("join", {}).get(room_id) or rooms.get("leave", {}).get(room_id) or {}
    return {event["event_id"] for event in shown.get("timeline", {}).get("events", [])} & set(said)
