"""Servers that are away for a while, and wires that are cut: what both sides did meanwhile comes together."""

from __future__ import annotations

from tests.support.federation.stories import (
    Sides,
    joins,
    same_state,
    shared_room,
    state_ids,
    told,
    until_membership,
    waits_to_see,
)
from tests.support.waiting import until


@told()
def test_the_other_server_is_away(sides: Sides, version: str) -> None:
    ann, bob, room_id = shared_room(sides, version)
    sides.there.link.cut()
    said = [ann.say(room_id, f"unheard {n}") for n in range(60)]
    said.append(ann.set_state(room_id, "m.room.name", {"name": "meanwhile"}))
    sides.there.link.heal()
    said.append(ann.say(room_id, "there again?"))
    waits_to_see(bob, room_id, *said)
    same_state(ann, bob, room_id)


@told()
def test_both_go_on_apart(sides: Sides, version: str) -> None:
    ann, bob, room_id = shared_room(sides, version)
    sides.there.link.cut()
    sides.here.link.cut()
    said = [person.say(room_id, f"apart {n}") for n in range(15) for person in (ann, bob)]
    sides.there.link.heal()
    sides.here.link.heal()
    said += [ann.say(room_id, "together"), bob.say(room_id, "together")]
    waits_to_see(bob, room_id, *said)
    waits_to_see(ann, room_id, *said)
    same_state(ann, bob, room_id)


@told()
def test_a_fight_for_power(sides: Sides, version: str) -> None:
    ann, bob, room_id = shared_room(sides, version)
    carol = sides.there.person("carol")
    joins(carol, room_id, sides.here)
    until_membership(ann, room_id, carol, "join")
    levels = ann.ok("GET", f"/rooms/{room_id}/state/m.room.power_levels/")
    levels["users"] = {**levels.get("users", {}), bob.user_id: 90}
    waits_to_see(bob, room_id, ann.set_state(room_id, "m.room.power_levels", levels))
    until(lambda: bob.user_id in bob.ok("GET", f"/rooms/{room_id}/state/m.room.power_levels/")["users"], "power")
    sides.there.link.cut()
    sides.here.link.cut()
    # One takes the power away; the other uses it meanwhile.
    ann.set_state(room_id, "m.room.power_levels", {**levels, "users": {**levels["users"], bob.user_id: 0}})
    bob.set_state(room_id, "m.room.topic", {"topic": "mine"})
    bob.room(room_id, "ban", user_id=carol.user_id)
    bob.set_state(room_id, "m.room.name", {"name": "mine too"})
    ann.set_state(room_id, "m.room.name", {"name": "mine"})
    sides.there.link.heal()
    sides.here.link.heal()
    ann.say(room_id, "who has won?")
    bob.say(room_id, "who?")
    same_state(ann, bob, room_id)
    assert ("m.room.name", "") in state_ids(ann, room_id)


@told()
def test_a_server_is_restarted(sides: Sides, version: str) -> None:
    ann, bob, room_id = shared_room(sides, version)
    sides.there.stop()
    said = [ann.say(room_id, f"while it is away {n}") for n in range(5)]
    sides.there.start()
    said.append(ann.say(room_id, "there again?"))
    waits_to_see(bob, room_id, *said)
    answered = bob.say(room_id, "here", patient=True)
    waits_to_see(ann, room_id, answered)
    same_state(ann, bob, room_id)
