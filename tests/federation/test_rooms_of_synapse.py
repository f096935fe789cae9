"""Our users in rooms that a real Synapse made."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.support.federation.homeserver import Homeserver
from tests.support.federation.stories import in_section, joins, membership, same_state, until_membership, waits_to_see
from tests.support.matrix_client import Client
from tests.support.soak import versions
from tests.support.waiting import until


def _restricted(version: str, door: str) -> dict[str, Any]:
    allow = [{"type": "m.room_membership", "room_id": door}]
    rule = "restricted" if version in ("8", "9") else "knock_restricted"
    return {"join_rule": rule, "allow": allow}


@pytest.mark.parametrize("version", versions("10", "12"))
def test_join_chat_leave_and_join_again(annals: Homeserver, synapse: Homeserver, version: str) -> None:
    ours, theirs = annals.person(), synapse.person()
    room = theirs.create_room(preset="public_chat", room_version=version, name="theirs")
    joins(ours, room, synapse)
    assert membership(theirs, room, ours.user_id) == "join"
    waits_to_see(ours, room, theirs.say(room, "hello"))
    waits_to_see(theirs, room, ours.say(room, "hello yourself"))
    same_state(ours, theirs, room)
    ours.room(room, "leave")
    until(lambda: membership(theirs, room, ours.user_id) == "leave", "the leave arrives")
    theirs.say(room, "gone")
    theirs.set_state(room, "m.room.topic", {"topic": "while they were away"})
    joins(ours, room, synapse)
    waits_to_see(ours, room, theirs.say(room, "welcome back"))
    same_state(ours, theirs, room)


@pytest.mark.parametrize("version", versions("8", "12", since=8))
def test_restricted_rooms(annals: Homeserver, synapse: Homeserver, version: str) -> None:
    ours, second, theirs = annals.person(), annals.person(), synapse.person()
    door = theirs.create_room(preset="public_chat", room_version=version)
    rule = _restricted(version, door)
    state = [{"type": "m.room.join_rules", "state_key": "", "content": rule}]
    room = theirs.create_room(preset="private_chat", room_version=version, initial_state=state)
    status, answer = ours.call("POST", f"/join/{quote(room)}", {}, {"via": synapse.name})
    assert (status, answer["errcode"]) == (403, "M_FORBIDDEN")
    for person in (ours, second):
        joins(person, door, synapse)
        until_membership(theirs, door, person, "join")
        # The second time we are in the room, but nobody of us may let others in.
        joins(person, room, synapse)
        waits_to_see(person, room, theirs.say(room, "in"))
    same_state(ours, theirs, room)


@pytest.mark.parametrize("version", versions("6", "12"))
def test_invites_are_rejected_with_their_server_there_and_without(
    annals: Homeserver, synapse: Homeserver, version: str
) -> None:
    ours, theirs = annals.person(), synapse.person()
    room = theirs.create_room(preset="private_chat", room_version=version)
    theirs.room(room, "invite", user_id=ours.user_id)
    until(lambda: in_section(ours, "invite", room), "the invite arrives")
    ours.room(room, "leave")
    assert membership(theirs, room, ours.user_id) == "leave"
    assert in_section(ours, "invite", room) is None
    theirs.room(room, "invite", user_id=ours.user_id)
    until(lambda: in_section(ours, "invite", room), "another invite arrives")
    synapse.link.cut()
    try:
        ours.room(room, "leave")
        assert in_section(ours, "invite", room) is None
    finally:
        synapse.link.heal()


def test_what_synapse_refuses_is_what_our_user_hears(annals: Homeserver, synapse: Homeserver) -> None:
    ours, theirs = annals.person(), synapse.person()
    room = theirs.create_room(preset="private_chat")

    def asked(person: Client) -> tuple[int, str]:
        status, answer = person.call("POST", f"/join/{quote(room)}", {}, {"via": synapse.name})
        return status, answer["errcode"]

    assert asked(ours) == (403, "M_FORBIDDEN")
    status, answer = ours.call("POST", f"/join/{quote('!nothing:here')}", {}, {"via": synapse.name})
    assert (status, answer["errcode"]) == (404, "M_NOT_FOUND")
    alias = quote(f"#nothing:{synapse.name}")
    assert ours.call("GET", f"/directory/room/{alias}")[0] == 404
