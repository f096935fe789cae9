"""Two servers of ours and Synapse share a room while one of the three wires is cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.federation.annals import AnnalsServer
from tests.support.federation.homeserver import Homeserver
from tests.support.federation.stories import joins, same_state, until_membership, waits_to_see
from tests.support.scripted_peer import Authority
from tests.support.soak import versions


@pytest.fixture
def third(authority: Authority, tmp_path: Path) -> Iterator[Homeserver]:
    with AnnalsServer(tmp_path / "third", authority) as server:
        yield server


@pytest.mark.parametrize("version", versions("12"))
def test_a_wire_of_three_is_cut(ours: Homeserver, synapse: Homeserver, third: Homeserver, version: str) -> None:
    ann, bob, carol = ours.person("ann"), synapse.person("bob"), third.person("carol")
    room_id = ann.create_room(preset="public_chat", room_version=version)
    joins(bob, room_id, ours)
    joins(carol, room_id, ours)
    for one, other in ((ann, carol), (bob, carol), (carol, bob)):
        until_membership(one, room_id, other, "join")
    synapse.link.cut_from(ours.name, ours.group)
    ours.link.cut_from(synapse.name, synapse.group)
    mine, theirs = ann.say(room_id, "not heard by bob"), bob.say(room_id, "not heard by ann")
    waits_to_see(carol, room_id, mine, theirs)
    # Whoever follows on both brings both along: the others ask carol's server for what they lack.
    joining = carol.say(room_id, "I have heard you both")
    waits_to_see(ann, room_id, joining, theirs)
    waits_to_see(bob, room_id, joining, mine)
    synapse.link.heal()
    ours.link.heal()
    named = ann.set_state(room_id, "m.room.name", {"name": "together"})
    for person in (bob, carol):
        waits_to_see(person, room_id, named)
        same_state(ann, person, room_id)
