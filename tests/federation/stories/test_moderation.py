"""Who is kicked, banned, or leaves, on either server; and comes back."""

from __future__ import annotations

import pytest

from tests.support.federation.homeserver import Homeserver
from tests.support.federation.stories import (
    ALWAYS,
    Sides,
    in_section,
    joins,
    same_state,
    shared_room,
    told,
    until_membership,
    waits_to_see,
)
from tests.support.matrix_client import Client, quote
from tests.support.soak import versions
from tests.support.waiting import until

#: When we come back, the head that we had (the ban) stands beside our join; this version's resolution keeps the ban.
_LEFT_BEHIND = pytest.param("1", marks=[pytest.mark.soak, pytest.mark.xfail(reason="old heads are kept by a join")])


@told()
def test_kicked_and_banned(sides: Sides, version: str) -> None:
    ann, bob, room_id = shared_room(sides, version)
    carol = sides.there.person("carol")
    joins(carol, room_id, sides.here)
    until_membership(ann, room_id, carol, "join")
    ann.room(room_id, "kick", user_id=carol.user_id, reason="for a while")
    until_membership(bob, room_id, carol, "leave")
    joins(carol, room_id, sides.here)
    until_membership(ann, room_id, carol, "join")
    ann.room(room_id, "ban", user_id=carol.user_id)
    until_membership(bob, room_id, carol, "ban")
    assert _tries_to_join(carol, room_id, sides.here) == 403
    ann.room(room_id, "unban", user_id=carol.user_id)
    until_membership(bob, room_id, carol, "leave")
    joins(carol, room_id, sides.here)
    until_membership(ann, room_id, carol, "join")
    same_state(ann, bob, room_id)


def _tries_to_join(person: Client, room_id: str, via: Homeserver) -> int:
    return person.call("POST", f"/join/{room_id}", {}, {"server_name": via.name, "via": via.name})[0]


@told()
def test_the_last_one_leaves_and_comes_back(sides: Sides, version: str) -> None:
    ann, bob, room_id = shared_room(sides, version)
    bob.room(room_id, "leave")
    until_membership(ann, room_id, bob, "leave")
    meanwhile = [ann.say(room_id, f"alone {n}") for n in range(3)]
    ann.set_state(room_id, "m.room.name", {"name": "meanwhile"})
    joins(bob, room_id, sides.here)
    until_membership(ann, room_id, bob, "join")
    waits_to_see(ann, room_id, bob.say(room_id, "back"))
    waits_to_see(bob, room_id, ann.say(room_id, "welcome"))
    same_state(ann, bob, room_id)
    history = [event["event_id"] for event in bob.history(room_id)]
    assert set(meanwhile) <= set(history)


@told()
def test_the_last_one_is_kicked_while_looking(sides: Sides, version: str) -> None:
    ann, bob, room_id = shared_room(sides, version)
    ann.room(room_id, "kick", user_id=bob.user_id)
    _until_left(bob, room_id)
    # Synapse refuses to leave once more, we do not.
    assert bob.call("POST", f"/rooms/{room_id}/leave", {})[0] in (200, 403)
    joins(bob, room_id, sides.here)
    until_membership(ann, room_id, bob, "join")


def _until_left(person: Client, room_id: str) -> None:
    since: str | None = None

    def left() -> bool:
        nonlocal since
        answer = person.sync(since, timeout=1000)
        since = answer["next_batch"]
        return room_id in answer.get("rooms", {}).get("leave", {}) or in_section(person, "leave", room_id) is not None

    until(left, f"{person.user_id} sees that they are out")


@pytest.mark.parametrize("version", [_LEFT_BEHIND, *versions(*ALWAYS, since=2)])
def test_unbanned_and_invited(sides: Sides, version: str) -> None:
    ann, bob, room_id = shared_room(sides, version)
    ann.room(room_id, "ban", user_id=bob.user_id)
    _until_left(bob, room_id)
    ann.room(room_id, "unban", user_id=bob.user_id)
    ann.room(room_id, "invite", user_id=bob.user_id)
    until(lambda: in_section(bob, "invite", room_id), "bob hears of it")
    # No server is named: the inviter's is asked.
    bob.ok("POST", f"/join/{quote(room_id)}", {})
    until_membership(ann, room_id, bob, "join")
    waits_to_see(ann, room_id, bob.say(room_id, "back"))
    same_state(ann, bob, room_id)


@told()
def test_a_server_that_is_shut_out_and_let_in_again(sides: Sides, version: str) -> None:
    ann, bob, room_id = shared_room(sides, version)
    elsewhere = ann.create_room(preset="public_chat")
    joins(bob, elsewhere, sides.here)
    until_membership(ann, elsewhere, bob, "join")
    acl = {"allow": ["*"], "deny": [sides.there.host], "allow_ip_literals": True}
    ann.set_state(room_id, "m.room.server_acl", acl)
    inside = sides.here.person("inside")
    joins(inside, room_id, sides.here)
    path = f"/rooms/{quote(room_id)}/send/m.room.message/x"
    unheard = bob.call("PUT", path, {"msgtype": "m.text", "body": "let me in"})
    # What a server sends comes in order: when this has come, what was said before it has been refused.
    waits_to_see(ann, elsewhere, bob.say(elsewhere, "they do not hear me"))
    for person in (ann, inside):
        texts = [event["content"].get("body") for event in person.history(room_id)]
        assert "let me in" not in texts, unheard
    let_in = ann.set_state(room_id, "m.room.server_acl", {**acl, "deny": []})
    waits_to_see(bob, room_id, let_in)
    waits_to_see(inside, room_id, bob.say(room_id, "heard again"))
    waits_to_see(bob, room_id, inside.say(room_id, "welcome"))
    same_state(ann, bob, room_id)
