"""Row 38: a server speaks for its own users only, in rooms that they are in."""

from __future__ import annotations

from typing import Any

from annals.schemas.codec import decode
from tests.support.remote_server import RemoteServer
from tests.support.server import LiveServer
from tests.support.server_fixtures import server

__all__ = ["server"]


def all_facts(server: LiveServer, *topics: str) -> list[Any]:
    """Everything on these topics."""
    log = server.house.log
    records = [
        record
        for topic in topics
        for partition in range(log.partitions(topic))
        for record in log.read(topic, partition, 0, max_records=100_000, max_bytes=1 << 30)
    ]
    return [decode(record.value) for record in records if record.value is not None]


def edus_about(room_id: str, user_id: str, event_id: str) -> list[dict[str, Any]]:
    """One EDU of each kind about a user."""
    read = {"m.read": {user_id: {"event_ids": [event_id], "data": {"ts": 1}}}}
    messages = {"@alice:test": {"D": {"x": 1}}}
    contents: dict[str, dict[str, Any]] = {
        "m.typing": {"room_id": room_id, "user_id": user_id, "typing": True},
        "m.receipt": {room_id: read},
        "m.presence": {"push": [{"user_id": user_id, "presence": "online", "last_active_ago": 1}]},
        "m.direct_to_device": {"sender": user_id, "type": "m.x", "message_id": "1", "messages": messages},
        "m.device_list_update": {"user_id": user_id, "device_id": "D", "stream_id": 1, "prev_id": []},
        "m.signing_key_update": {"user_id": user_id, "master_key": {"user_id": user_id, "usage": ["master"]}},
    }
    return [{"edu_type": kind, "content": content} for kind, content in contents.items()]


def test_no_server_speaks_for_users_of_another(server: LiveServer) -> None:
    alice, evil, victim = server.user("alice"), RemoteServer(server), RemoteServer(server)
    room_id = alice.create_room(preset="public_chat")
    mallory, bob = evil.user("mallory"), victim.user("bob")
    evil.join(room_id, mallory)
    victim.join(room_id, bob)
    event_id = alice.say(room_id, "x")
    topics = ("ephemeral", "receipts", "users")

    def said_of_them() -> list[Any]:
        facts = all_facts(server, *topics)
        return [fact for fact in facts if getattr(fact, "user_id", "").endswith((alice.id, evil.name, victim.name))]

    before = said_of_them()
    stranger = evil.user("stranger")
    tricks = [bob, alice.id, bob.upper(), f"@x:{victim.name}", f"@x:{evil.name}:1", f"x:{evil.name}", "@x", ""]
    edus = [edu for user_id in tricks for edu in edus_about(room_id, user_id, event_id)]
    # Of its own, who is not in the room.
    edus += edus_about(room_id, stranger, event_id)[:3]
    assert evil.send(edus=edus) == (200, {"pdus": {}})
    assert said_of_them() == before
    assert evil.send(edus=edus_about(room_id, mallory, event_id))[0] == 200
    said = [fact for fact in said_of_them() if fact not in before]
    assert {getattr(fact, "user_id", None) for fact in said} == {mallory}
    assert {type(fact).__name__ for fact in said} >= {"TypingSet", "ReceiptSet", "PresenceSet"}
