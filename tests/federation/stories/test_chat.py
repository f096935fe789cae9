"""A room that two servers share: people join it, talk, name it, take words back. In every room version."""

from __future__ import annotations

import pytest

from annals.matrix.room_versions import ROOM_VERSIONS
from tests.support.federation.stories import (
    Sides,
    body_of,
    eventually,
    joins,
    same_state,
    shared_room,
    until_membership,
    waits_to_see,
)
from tests.support.matrix_client import Client


@pytest.mark.parametrize("version", ROOM_VERSIONS)
def test_made_here_joined_there(sides: Sides, version: str) -> None:
    ann, bob = sides.here.person("ann"), sides.there.person("bob")
    room_id = ann.create_room(preset="public_chat", room_version=version, name="shared")
    early = ann.say(room_id, "before anybody came")
    joins(bob, room_id, sides.here)
    until_membership(ann, room_id, bob, "join")
    said = [ann.say(room_id, "from here"), bob.say(room_id, "from there")]
    waits_to_see(bob, room_id, *said)
    waits_to_see(ann, room_id, *said)
    assert body_of(bob, room_id, said[0]) == "from here"
    waits_to_see(bob, room_id, ann.set_state(room_id, "m.room.topic", {"topic": "talk"}))
    bob.redact(room_id, said[1])
    eventually(lambda: body_of(ann, room_id, said[1]) is None, "the redaction arrives")
    same_state(ann, bob, room_id)
    assert early in [event["event_id"] for event in bob.history(room_id)]


@pytest.mark.parametrize("version", ["10", "12"])
def test_many_talk_at_once(sides: Sides, version: str) -> None:
    ann, bob, room_id = shared_room(sides, version)
    said = [person.say(room_id, f"{n}") for n in range(20) for person in (ann, bob)]
    waits_to_see(bob, room_id, *said)
    waits_to_see(ann, room_id, *said)
    same_state(ann, bob, room_id)


def test_an_alias_of_another_server(sides: Sides) -> None:
    ann, bob = sides.here.person("ann"), sides.there.person("bob")
    local = ann.user_id[1:].partition(":")[0]
    room_id = ann.create_room(preset="public_chat", room_alias_name=local)
    joins(bob, f"#{local}:{sides.here.name}", sides.here)
    until_membership(ann, room_id, bob, "join")


def test_a_profile_of_another_server(sides: Sides) -> None:
    ann, bob = sides.here.person("ann"), sides.there.person("bob")
    ann.ok("PUT", f"/profile/{ann.user_id}/displayname", {"displayname": "Ann of elsewhere"})
    profile = eventually(lambda: bob.call("GET", f"/profile/{ann.user_id}")[1], "the profile")
    assert profile.get("displayname") == "Ann of elsewhere"


def test_who_is_online_there_and_here(sides: Sides) -> None:
    ann, bob, _ = shared_room(sides, "12")

    def sees_presence(person: Client, of: Client, state: str) -> bool:
        return bool(person.ok("GET", f"/presence/{of.user_id}/status")["presence"] == state)

    def becomes(person: Client, other: Client, state: str) -> None:
        # Said again and again: a server of which nothing is known yet may miss what is of use now only.
        def told() -> bool:
            person.ok("PUT", f"/presence/{person.user_id}/status", {"presence": state, "status_msg": state})
            return sees_presence(other, person, state)

        eventually(told, f"{other.user_id} sees {person.user_id} {state}")

    for state in ("online", "unavailable", "offline"):
        becomes(ann, bob, state)
        becomes(bob, ann, state)
