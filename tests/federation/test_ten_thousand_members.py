"""Rooms of 10,000 members with a real Synapse. Its users would take it an hour to make, so they are a third server's,
which made the room and stays silent from then on: one server joins by way of it, the other by way of the first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.federation.annals import AnnalsServer
from tests.support.federation.homeserver import Homeserver
from tests.support.federation.stories import (
    Sides,
    joins,
    same_state,
    state_ids,
    until_membership,
    waits_to_see,
)
from tests.support.federation.synapse import SynapseServer
from tests.support.matrix_client import Client
from tests.support.rebuild_check import assert_rebuild_equal
from tests.support.room_peers import ThreadedRoomPeer, room_peer
from tests.support.scripted_peer import Authority

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

MEMBERS = 10_000
ANSWER_S = 900.0


@pytest.fixture
def third(authority: Authority, tmp_path: Path) -> Iterator[ThreadedRoomPeer]:
    with room_peer(authority, tmp_path / "third") as peer:
        peer.takes_transactions = True
        yield peer


@pytest.fixture
def ours(authority: Authority, tmp_path: Path) -> Iterator[AnnalsServer]:
    server = AnnalsServer(tmp_path / "ours", authority)
    with server:
        yield server


@pytest.fixture(params=["theirs", "ours"])
def sides(request: pytest.FixtureRequest, ours: AnnalsServer, authority: Authority, tmp_path: Path) -> Iterator[Sides]:
    """Who is in the room first, and who joins by way of it."""
    with SynapseServer(tmp_path / "synapse", authority) as theirs:
        yield Sides(ours, theirs) if request.param == "ours" else Sides(theirs, ours)


def _patient(server: Homeserver, name: str) -> Client:
    person = server.person(name)
    person.timeout_s = ANSWER_S
    return person


def _large_room(third: ThreadedRoomPeer, version: str, owner: Client) -> str:
    """A room of so many, in which the owner may do everything; the owner joins it."""
    room = third.make_room(version, members=MEMBERS)
    users = {} if room.rules.creators_have_infinite_power else {room.creator: 100}
    room.add("m.room.power_levels", room.creator, "", {"users": {**users, owner.user_id: 100}})
    owner.ok("POST", f"/join/{room.room_id}", {}, {"server_name": third.name, "via": third.name}, patient=True)
    return room.room_id


@pytest.mark.parametrize("version", ["12", "10"])
def test_joined_kicked_cut_off_and_rebuilt(
    sides: Sides, ours: AnnalsServer, third: ThreadedRoomPeer, version: str
) -> None:
    ann, bob = _patient(sides.here, "ann"), _patient(sides.there, "bob")
    room_id = _large_room(third, version, ann)
    asked = len(third.asked_to_make())
    joins(bob, room_id, sides.here)
    assert len(third.asked_to_make()) == asked
    until_membership(ann, room_id, bob, "join")
    assert len(state_ids(bob, room_id)) > MEMBERS
    said = [ann.say(room_id, "from here"), bob.say(room_id, "from there")]
    waits_to_see(ann, room_id, *said)
    waits_to_see(bob, room_id, *said)

    ann.room(room_id, "kick", user_id=bob.user_id)
    until_membership(bob, room_id, bob, "leave")
    ann.set_state(room_id, "m.room.topic", {"topic": "while bob was out"})
    joins(bob, room_id, sides.here)
    until_membership(ann, room_id, bob, "join")
    same_state(ann, bob, room_id)

    sides.there.link.cut()
    sides.here.link.cut()
    said = [person.say(room_id, f"apart {n}") for n in range(30) for person in (ann, bob)]
    said.append(ann.set_state(room_id, "m.room.name", {"name": "apart"}))
    sides.there.link.heal()
    sides.here.link.heal()
    said += [ann.say(room_id, "together"), bob.say(room_id, "together")]
    waits_to_see(ann, room_id, *said)
    waits_to_see(bob, room_id, *said)
    same_state(ann, bob, room_id)

    ours.stop()
    assert_rebuild_equal(ours.config)
