"""Users of a bridge, whom our server knows by their application service alone, share rooms with Synapse's."""

from __future__ import annotations

from itertools import count

import pytest

from tests.support.federation.bridges import bridged
from tests.support.federation.homeserver import Homeserver
from tests.support.federation.stories import ALWAYS, joins, same_state, until_membership, waits_to_see
from tests.support.soak import versions

_numbers = count(1)


@pytest.mark.parametrize("version", versions(*ALWAYS))
def test_a_bridges_user_joins_elsewhere(annals: Homeserver, synapse: Homeserver, version: str) -> None:
    ann, bob = synapse.person("ann"), bridged(annals, f"bob{next(_numbers)}")
    room_id = ann.create_room(preset="public_chat", room_version=version, name="bridged")
    joins(bob, room_id, synapse)
    until_membership(ann, room_id, bob, "join")
    said = [ann.say(room_id, "who is there?"), bob.say(room_id, "somebody of another network")]
    waits_to_see(bob, room_id, *said)
    waits_to_see(ann, room_id, *said)
    same_state(ann, bob, room_id)


@pytest.mark.parametrize("version", versions(*ALWAYS))
def test_a_bridges_room_is_joined_from_elsewhere(annals: Homeserver, synapse: Homeserver, version: str) -> None:
    ann, bob = bridged(annals, f"ann{next(_numbers)}"), synapse.person("bob")
    room_id = ann.create_room(preset="public_chat", room_version=version, name="bridged")
    joins(bob, room_id, annals)
    until_membership(ann, room_id, bob, "join")
    waits_to_see(ann, room_id, bob.say(room_id, "hello"))
    same_state(ann, bob, room_id)
