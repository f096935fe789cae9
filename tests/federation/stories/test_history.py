"""What was said before somebody joined is read page by page, over federation."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.room_versions import ROOM_VERSIONS
from tests.support.federation.annals import AnnalsServer
from tests.support.federation.stories import Sides, joins, told, until_membership
from tests.support.matrix_client import Client, quote
from tests.support.soak import only_in_soak

# More than one answer brings, and than one page shows; and where it takes several of both.
_COUNTS = {"10": 150, "12": 300}


def _moment(person: Client, room_id: str, event_id: str) -> dict[str, Any]:
    """When an event was sent, as one asks for it."""
    event = person.ok("GET", f"/rooms/{quote(room_id)}/event/{quote(event_id)}")
    return {"ts": event["origin_server_ts"], "dir": "f"}


@pytest.mark.parametrize(
    ("version", "count"), [*_COUNTS.items(), *(only_in_soak(version, 500) for version in ROOM_VERSIONS)]
)
def test_hundreds_of_events_of_before(sides: Sides, version: str, count: int) -> None:
    ann, bob = sides.here.person("ann"), sides.there.person("bob")
    room_id = ann.create_room(preset="public_chat", room_version=version)
    said = []
    for n in range(count):
        said.append(ann.say(room_id, f"{n}"))
        if n % 100 == 50:
            said.append(ann.set_state(room_id, "m.room.topic", {"topic": f"after {n}"}))
    joins(bob, room_id, sides.here)
    until_membership(ann, room_id, bob, "join")
    history = [event["event_id"] for event in bob.history(room_id)]
    assert [event_id for event_id in history if event_id in set(said)] == said[::-1]
    assert len(history) == len(set(history))


@told()
def test_a_moment_of_before(sides: Sides, version: str) -> None:
    ann, bob = sides.here.person("ann"), sides.there.person("bob")
    room_id = ann.create_room(preset="public_chat", room_version=version)
    said = [ann.say(room_id, f"{n}") for n in range(40)]
    joins(bob, room_id, sides.here)
    until_membership(ann, room_id, bob, "join")
    moment = _moment(ann, room_id, said[10])
    path = f"/_matrix/client/v1/rooms/{quote(room_id)}/timestamp_to_event"
    found = bob.ok("GET", path, None, moment)
    assert found["origin_server_ts"] == moment["ts"]
    assert found["event_id"] in said
    assert bob.ok("GET", f"/rooms/{quote(room_id)}/context/{quote(found['event_id'])}")["event"] is not None
    if isinstance(sides.there, AnnalsServer):
        # What lies between is not forgotten over it. (Synapse does.)
        history = [event["event_id"] for event in bob.history(room_id)]
        assert [event_id for event_id in history if event_id in set(said)] == said[::-1]
