"""Two people chat: the way through the whole house."""

from __future__ import annotations

from tests.support.server import LiveServer, bodies, quoted
from tests.support.server_fixtures import on_both_logs


@on_both_logs
def test_two_people_chat(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room(preset="private_chat", name="Tea", invite=[bob.id])
    assert bob.sync()["rooms"]["invite"][room]
    bob.join(room)
    first = alice.say(room, "hello")
    second = bob.say(room, "hello yourself")
    page = alice.messages(room)
    assert [event["event_id"] for event in page["chunk"][:2]] == [second, first]
    assert page["chunk"][1]["unsigned"]["transaction_id"] == "say-hello"
    assert "transaction_id" not in page["chunk"][0]["unsigned"]
    joined = bob.sync()["rooms"]["join"][room]
    assert bodies(joined["timeline"]["events"]) == ["hello", "hello yourself"]
    assert alice.do("GET", "/joined_rooms") == {"joined_rooms": [room]}
    assert alice.do("GET", f"/rooms/{quoted(room)}/state/m.room.name") == {"name": "Tea"}
