"""Row 18: of an access control list that was redacted nothing remains but that there is one: it allows nobody."""

from __future__ import annotations

import pytest

from annals.egress.audiences import Audiences
from annals.projectors.rooms.standing import standings
from tests.support.egress_world import membership
from tests.support.rooms import SERVER, Driver
from tests.support.sync_world import World

GOOD, EVIL = "good.example", "evil.example"
ACL = "m.room.server_acl"


def admitted(world: World, room: Driver) -> set[str]:
    """Whose inputs are taken."""
    standing = world.database.read_now(lambda snapshot: standings(snapshot, [room.room_id]))[room.room_id]
    return {name for name in (GOOD, EVIL) if standing.admits(name)}


@pytest.mark.parametrize("version", ["11", "12"])
def test_a_redacted_list_allows_nobody_until_there_is_another(world: World, version: str) -> None:
    room = world.room(version)
    world.feed(room, membership(room, f"@bob:{GOOD}"))
    world.feed(room, membership(room, f"@mallory:{EVIL}"))
    kept = Audiences(SERVER)

    def told() -> set[str]:
        """Who is told of typing and receipts; who has looked at the room before and who has not says the same."""

        def asked(audiences: Audiences) -> set[str]:
            return set(world.database.read_now(lambda snapshot: audiences.now(snapshot, [room.room_id]))[room.room_id])

        found = asked(kept)
        assert asked(Audiences(SERVER)) == found
        return found

    assert told() == admitted(world, room) == {GOOD, EVIL}
    acl = world.send(room, "alice", ACL, {"allow": ["*"], "deny": [EVIL]}, "")
    assert told() == admitted(world, room) == {GOOD}
    world.send(room, "alice", "m.room.redaction", {"redacts": acl.event_id})
    assert told() == admitted(world, room) == set()
    world.send(room, "alice", ACL, {"allow": ["*.example"]}, "")
    assert told() == admitted(world, room) == {GOOD, EVIL}
