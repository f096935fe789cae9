from tests.support.rooms import new_room, user
import pytest


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("version", ["10", "11", "12"])
def test_chat(version, cold):
    room = new_room(version, cold=cold)
    join = room.send(user("bob"), "m.room.member", {"membership": "join"}, user("bob"))
    assert room.verdict(join.event_id) == "accepted"
    for n in range(40):
        e = room.send(user("bob"), "m.room.message", {"body": str(n)})
        assert room.verdict(e.event_id) == "accepted"
        t = room.send(user("alice"), "m.room.topic", {"topic": str(n)}, "")
        assert room.verdict(t.event_id) == "accepted"
    assert room.tables.current == room.tables.state_map(room.tables.room["current"])
    e = room.send(user("carol"), "m.room.message", {"body": "x"})
    assert room.verdict(e.event_id) == "rejected"
