"""Invites over federation: taken, refused, withdrawn; knocks; rooms for the members of another room."""

from __future__ import annotations

from tests.support.federation.stories import Sides, in_section, joins, same_state, told, until_membership
from tests.support.matrix_client import Client
from tests.support.waiting import until


def _invited(sides: Sides, version: str) -> tuple[Client, Client, str]:
    ann, bob = sides.here.person("ann"), sides.there.person("bob")
    room_id = ann.create_room(preset="private_chat", room_version=version, name="by invitation")
    ann.room(room_id, "invite", user_id=bob.user_id)
    until(lambda: in_section(bob, "invite", room_id), "bob hears of it")
    return ann, bob, room_id


@told()
def test_invited_and_taken(sides: Sides, version: str) -> None:
    ann, bob, room_id = _invited(sides, version)
    shown = in_section(bob, "invite", room_id)
    assert shown is not None
    state = {(e["type"], e.get("state_key")): e for e in shown["invite_state"]["events"]}
    assert state["m.room.name", ""]["content"] == {"name": "by invitation"}
    assert state["m.room.member", bob.user_id]["sender"] == ann.user_id
    # No server is named: the inviter's is asked.
    bob.ok("POST", f"/join/{room_id}", {})
    until_membership(ann, room_id, bob, "join")
    assert in_section(bob, "invite", room_id) is None
    same_state(ann, bob, room_id)


@told()
def test_invited_and_refused(sides: Sides, version: str) -> None:
    ann, bob, room_id = _invited(sides, version)
    bob.room(room_id, "leave")
    until_membership(ann, room_id, bob, "leave")
    assert in_section(bob, "invite", room_id) is None


@told()
def test_invited_and_withdrawn(sides: Sides, version: str) -> None:
    ann, bob, room_id = _invited(sides, version)
    ann.room(room_id, "kick", user_id=bob.user_id)
    until(lambda: in_section(bob, "invite", room_id) is None, "the invite is gone")
    assert bob.call("POST", f"/join/{room_id}", {}, {"server_name": sides.here.name})[0] == 403


@told()
def test_invited_with_the_room(sides: Sides, version: str) -> None:
    ann, bob = sides.here.person("ann"), sides.there.person("bob")
    room_id = ann.create_room(preset="trusted_private_chat", room_version=version, invite=[bob.user_id], is_direct=True)
    until(lambda: in_section(bob, "invite", room_id), "bob hears of it")
    bob.ok("POST", f"/join/{room_id}", {})
    until_membership(ann, room_id, bob, "join")


@told(since=7)
def test_knocked_and_let_in(sides: Sides, version: str) -> None:
    ann, bob = sides.here.person("ann"), sides.there.person("bob")
    room_id = ann.create_room(
        preset="private_chat",
        room_version=version,
        initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}],
    )
    bob.ok("POST", f"/knock/{room_id}", {"reason": "please"}, {"server_name": sides.here.name, "via": sides.here.name})
    until_membership(ann, room_id, bob, "knock")
    until(lambda: in_section(bob, "knock", room_id), "bob sees that he knocked")
    ann.room(room_id, "invite", user_id=bob.user_id)
    until(lambda: in_section(bob, "invite", room_id), "bob hears of it")
    bob.ok("POST", f"/join/{room_id}", {})
    until_membership(ann, room_id, bob, "join")


@told(since=8)
def test_a_room_for_the_members_of_another(sides: Sides, version: str) -> None:
    ann, bob, eve = sides.here.person("ann"), sides.there.person("bob"), sides.there.person("eve")
    club = ann.create_room(preset="public_chat", room_version=version)
    allow = [{"type": "m.room_membership", "room_id": club}]
    room_id = ann.create_room(
        preset="private_chat",
        room_version=version,
        initial_state=[
            {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "restricted", "allow": allow}}
        ],
    )
    via = {"server_name": sides.here.name, "via": sides.here.name}
    assert eve.call("POST", f"/join/{room_id}", {}, via)[0] == 403
    joins(bob, club, sides.here)
    until_membership(ann, club, bob, "join")
    joins(bob, room_id, sides.here)
    until_membership(ann, room_id, bob, "join")
    same_state(ann, bob, room_id)
