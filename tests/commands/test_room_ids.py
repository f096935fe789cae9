from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from annals.commands.rooms.creating import RoomCreation
from annals.commands.rooms.creation import RoomRequest
from annals.matrix.room_versions import ROOM_VERSIONS
from tests.support.rooms import SIGNER, user


@pytest.mark.parametrize("version", ["11", "12"])
def test_two_rooms_of_one_millisecond_are_two(version: str) -> None:
    # From version 12 on the room id is the hash of a create event in which nothing but the time may differ.
    anything: Any = SimpleNamespace(clock=lambda: 1)
    creation = RoomCreation(anything, anything, anything, SIGNER, anything, anything)
    plans = [creation._plan(RoomRequest(creator=user("alice")), ROOM_VERSIONS[version], {}) for _ in range(3)]
    assert len({plan["room_id"] for plan in plans}) == 3
