"""Two servers of ours and Synapse share a room while one of the three wires is cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.federation.annals import AnnalsServer
from tests.support.federation.homeserver import Homeserver
from tests.support.federation.stories import Sides, joins, same_state, told, until_membership, waits_to_see
from tests.support.scripted_peer import Authority


@pytest.fixture(scope="module")
def third(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homeserver]:
    folder: Path = tmp_path_factory.mktemp("third")
    with AnnalsServer(folder, authority) as server:
        yield server


@told()
def test_a_wire_of_three_is_cut(sides: Sides, third: Homeserver, version: str) -> None:
    here, there = sides.here, sides.there
    ann, bob, carol = here.person("ann"), there.person("bob"), third.person("carol")
    room_id = ann.create_room(preset="public_chat", room_version=version)
    joins(bob, room_id, here)
    joins(carol, room_id, here)
    for one, other in ((ann, carol), (bob, carol), (carol, bob)):
        until_membership(one, room_id, other, "join")
    there.link.cut_from(here.name, here.group)
    here.link.cut_from(there.name, there.group)
    mine, theirs = ann.say(room_id, "not heard by bob"), bob.say(room_id, "not heard by ann")
    waits_to_see(carol, room_id, mine, theirs)
    # Whoever follows on both brings both along: the others ask carol's server for what they lack.
    joining = carol.say(room_id, "I have heard you both")
    waits_to_see(ann, room_id, joining, theirs)
    waits_to_see(bob, room_id, joining, mine)
    there.link.heal()
    here.link.heal()
    named = ann.set_state(room_id, "m.room.name", {"name": "together"})
    for person in (bob, carol):
        waits_to_see(person, room_id, named)
        same_state(ann, person, room_id)
