"""A room of each version from end to end: made, joined, talked in, redacted, kicked out of."""

from __future__ import annotations

import pytest

from annals.matrix.room_versions import ROOM_VERSIONS
from tests.support.server import LiveServer, quoted


@pytest.mark.parametrize("version", ROOM_VERSIONS)
def test_a_room_lives(server: LiveServer, version: str) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room(preset="public_chat", room_version=version)
    bob.join(room)
    base = f"/rooms/{quoted(room)}"
    create = alice.do("GET", f"{base}/state/m.room.create")
    assert (create["room_version"], "creator" in create) == (version, int(version) <= 10)
    levels = alice.do("GET", f"{base}/state/m.room.power_levels")
    assert levels["users"] == ({} if version == "12" else {alice.id: 100})
    first, second = alice.say(room, "one"), bob.say(room, "two")
    assert (":" in first, len(first)) == ((True, len(first)) if version in ("1", "2") else (False, 44))
    assert alice.do("GET", f"{base}/event/{quoted(second)}")["content"]["body"] == "two"
    assert bob.call("PUT", f"{base}/redact/{quoted(first)}/1", {})[0] == 403
    alice.do("PUT", f"{base}/redact/{quoted(second)}/2", {"reason": "spam"})
    assert bob.do("GET", f"{base}/event/{quoted(second)}")["content"] == {}
    alice.do("POST", f"{base}/kick", {"user_id": bob.id})
    assert bob.call("PUT", f"{base}/send/m.room.message/3", {"body": "three"})[0] == 403


def test_all_versions_are_offered(server: LiveServer) -> None:
    """The specification calls every one of them stable."""
    offered = server.user("alice").do("GET", "/capabilities")["capabilities"]["m.room_versions"]
    assert offered == {"default": "12", "available": {str(number): "stable" for number in range(1, 13)}}
