"""A room that two servers share: people join it, talk, name it, take words back. In every room version."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from annals.matrix.room_versions import ROOM_VERSIONS
from tests.support.federation.stories import (
    Sides,
    body_of,
    joins,
    same_state,
    shared_room,
    told,
    until_membership,
    upgraded,
    waits_to_see,
)
from tests.support.matrix_client import Client, quote
from tests.support.waiting import until


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
    until(lambda: body_of(ann, room_id, said[1]) is None, "the redaction arrives")
    same_state(ann, bob, room_id)
    assert early in [event["event_id"] for event in bob.history(room_id)]


@told()
def test_many_talk_at_once(sides: Sides, version: str) -> None:
    ann, bob, room_id = shared_room(sides, version)
    said = [person.say(room_id, f"{n}") for n in range(12) for person in (ann, bob)]
    waits_to_see(bob, room_id, *said)
    waits_to_see(ann, room_id, *said)
    same_state(ann, bob, room_id)


@told()
def test_who_was_there_before(sides: Sides, version: str) -> None:
    ann, bob = sides.here.person("ann"), sides.there.person("bob")
    room_id = ann.create_room(preset="public_chat", room_version=version, name="crowded")
    crowd = [sides.here.person("crowd") for _ in range(6)]
    for person in crowd:
        person.room(room_id, "join")
    # Synapse takes the room without its members at first, and asks for them then.
    joins(bob, room_id, sides.here)
    waits_to_see(ann, room_id, bob.say(room_id, "who are you all?"))
    everybody = {person.user_id for person in (ann, bob, *crowd)}

    def members() -> bool:
        return set(bob.ok("GET", f"/rooms/{quote(room_id)}/joined_members")["joined"]) == everybody

    until(members, "bob sees everybody")
    same_state(ann, bob, room_id)


@pytest.mark.parametrize("name", ["", "老虎£я🤨👉ඞ"])
@told()
def test_an_alias_of_another_server(sides: Sides, version: str, name: str) -> None:
    ann, bob = sides.here.person("ann"), sides.there.person("bob")
    local = ann.user_id[1:].partition(":")[0] + name
    room_id = ann.create_room(preset="public_chat", room_version=version, room_alias_name=local)
    joins(bob, f"#{local}:{sides.here.name}", sides.here)
    until_membership(ann, room_id, bob, "join")


@told()
def test_what_is_redacted_before_another_server_has_it(sides: Sides, version: str) -> None:
    ann, bob = sides.here.person("ann"), sides.there.person("bob")
    room_id = ann.create_room(preset="public_chat", room_version=version)
    early = ann.say(room_id, "before anybody came")
    joins(bob, room_id, sides.here)
    until_membership(ann, room_id, bob, "join")
    ann.redact(room_id, early)
    # Synapse shows no redaction of what it does not have.
    waits_to_see(bob, room_id, ann.say(room_id, "take no notice"))

    def fetched() -> list[Any]:
        return [event for event in bob.history(room_id) if event["event_id"] == early]

    [found] = until(fetched, "bob's server fetches what it lacks")
    assert "body" not in found["content"]


@told()
def test_who_types_and_who_has_read(sides: Sides, version: str) -> None:
    ann, bob, room_id = shared_room(sides, version)
    said = ann.say(room_id, "read me")
    waits_to_see(bob, room_id, said)
    bob.ok("POST", f"/rooms/{quote(room_id)}/receipt/m.read/{quote(said)}", {})
    typing = {"typing": True, "timeout": 60_000}

    def shown() -> bool:
        # Typing is told once, to who is there to hear it.
        bob.ok("PUT", f"/rooms/{quote(room_id)}/typing/{quote(bob.user_id)}", typing)
        room = ann.sync(timeout=0)["rooms"]["join"][room_id]
        content = {event["type"]: event["content"] for event in room["ephemeral"]["events"]}
        types = bob.user_id in content.get("m.typing", {}).get("user_ids", [])
        return types and bob.user_id in content.get("m.receipt", {}).get(said, {}).get("m.read", {})

    until(shown, "ann sees that bob types, and what he has read")


@told()
def test_a_room_is_replaced(sides: Sides, version: str) -> None:
    ann, bob, room_id = shared_room(sides, version)
    replacement = upgraded(ann, room_id, "12")
    path = f"/rooms/{quote(room_id)}/state/m.room.tombstone/"
    until(lambda: bob.call("GET", path)[0] == 200, "bob hears of it")
    assert bob.ok("GET", path)["replacement_room"] == replacement
    same_state(ann, bob, room_id)
    joins(bob, replacement, sides.here)
    until_membership(ann, replacement, bob, "join")
    [create] = [event for event in bob.state(replacement) if event["type"] == "m.room.create"]
    assert create["content"]["room_version"] == "12"
    assert create["content"]["predecessor"]["room_id"] == room_id
    waits_to_see(ann, replacement, bob.say(replacement, "here I am"))
    same_state(ann, bob, replacement)


def test_a_profile_of_another_server(sides: Sides) -> None:
    ann, bob = sides.here.person("ann"), sides.there.person("bob")
    ann.ok("PUT", f"/profile/{ann.user_id}/displayname", {"displayname": "Ann of elsewhere"})
    profile = until(lambda: bob.call("GET", f"/profile/{ann.user_id}")[1], "the profile")
    assert profile.get("displayname") == "Ann of elsewhere"


@told()
def test_who_is_online_there_and_here(sides: Sides, version: str) -> None:
    ann, bob, _ = shared_room(sides, version)

    def sees_presence(person: Client, of: Client, state: str) -> bool:
        return bool(person.ok("GET", f"/presence/{of.user_id}/status")["presence"] == state)

    def becomes(person: Client, other: Client, state: str) -> None:
        # Each time with another word, as nobody is told the same twice: what Synapse reads of a user that it has just
        # come to know overwrites what it is told meanwhile.
        words = count()

        def told() -> bool:
            said = {"presence": state, "status_msg": f"{state} {next(words)}"}
            person.ok("PUT", f"/presence/{person.user_id}/status", said)
            return sees_presence(other, person, state)

        until(told, f"{other.user_id} sees {person.user_id} {state}")

    for state in ("online", "unavailable", "offline"):
        becomes(ann, bob, state)
        becomes(bob, ann, state)
