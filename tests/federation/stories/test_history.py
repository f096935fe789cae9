"""What was said before somebody joined is read page by page, over federation."""

from __future__ import annotations

import pytest

from tests.support.federation.stories import Sides, joins, until_membership


@pytest.mark.parametrize("version", ["10", "12"])
def test_five_hundred_events_of_before(sides: Sides, version: str) -> None:
    ann, bob = sides.here.person("ann"), sides.there.person("bob")
    room_id = ann.create_room(preset="public_chat", room_version=version)
    said = []
    for n in range(500):
        said.append(ann.say(room_id, f"{n}"))
        if n % 100 == 50:
            said.append(ann.set_state(room_id, "m.room.topic", {"topic": f"after {n}"}))
    joins(bob, room_id, sides.here)
    until_membership(ann, room_id, bob, "join")
    history = [event["event_id"] for event in bob.history(room_id)]
    assert [event_id for event_id in history if event_id in set(said)] == said[::-1]
    assert len(history) == len(set(history))
