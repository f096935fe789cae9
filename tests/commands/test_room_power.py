"""Who may change a room's aliases and its visibility, by the tables of real rooms."""

from __future__ import annotations

from dataclasses import replace

import pytest

from annals.commands.rooms.power import RoomPower
from tests.support.accounts_house import House
from tests.support.rooms import new_room, user

ALIAS = "m.room.canonical_alias"


@pytest.mark.parametrize("version", ["10", "11", "12"])
def test_power_is_read_from_the_current_state(live: House, version: str) -> None:
    room = new_room(version)
    for name in ("bob", "carol", "dave"):
        room.send(user(name), "m.room.member", {"membership": "join"}, user(name))
    users = {user("bob"): 49, user("carol"): 50, user("dave"): 60}
    # Creators of version 12 have more power than any level.
    high = 101 if version == "12" else 100
    if version != "12":
        users[user("alice")] = 100
    room.send(user("alice"), "m.room.power_levels", {"users": users, "events": {"org.free": 0, "org.high": high}}, "")
    room.send(user("dave"), "m.room.member", {"membership": "leave"}, user("dave"))
    portal = live.client.portal
    assert portal is not None
    facts = [replace(fact, envelope=live.appender.envelope()) for fact in room.tables.facts.values()]
    portal.call(live.appender.submit_and_settle, facts)
    power = RoomPower()

    def may(name: str, type: str = ALIAS, room_id: str = room.view.room_id) -> bool:
        return live.database.read_now(lambda snapshot: power.may_send_state(snapshot, room_id, user(name), type))

    assert [may(name) for name in ("alice", "bob", "carol", "dave", "erin")] == [True, False, True, False, False]
    assert [may(name, "org.free") for name in ("bob", "dave")] == [True, False]
    assert [may(name, "org.high") for name in ("alice", "carol")] == [True, False]
    assert not may("alice", room_id="!unknown:test")
