"""Gaps below pushed events that nobody can or will fill: what waits is given up, and the room goes on."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from annals.ingest.fetchers.filling import NOBODY_HAS_IT, NOT_IN_ROOM, Unanswered
from annals.matrix.events import Event
from annals.schemas.facts.rooms import PduFetched
from tests.support.gap_fixtures import Play
from tests.support.gap_house import ALICE, GapHouse
from tests.support.gap_stories import abandoned, good_event_after
from tests.support.peer_room import PeerRoom
from tests.support.scripted_peer import ScriptedPeer
from tests.support.waiting import until_async


def test_a_pushed_event_that_lacks_one_afterwards_is_given_up(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        last = room.talk(2)[-1]
        room.peer.on("POST", room.path("get_missing_events"), {"events": []})
        await house.push(last)
        await house.filler.fill(room.id)
        assert (await house.verdicts(room))[last.event_id] == "dropped"
        [gone] = abandoned(house)
        assert (gone.event_ids, gone.reason) == (last.prev_events, NOBODY_HAS_IT)
        assert room.asked("state_ids") == 0
        await good_event_after(house, room)
        # Given up for now: where it is pulled later, it is judged.
        room._serve()
        after = room.say("after", prev=[last])
        await house.push(after)
        await house.filler.fill(room.id)
        assert (await house.verdicts(room))[last.event_id] == "accepted"

    play(story, rebuilt=True)


def _unsigned(room: PeerRoom, events: list[Any]) -> list[Any]:
    return [{**event.pdu, "signatures": {room.peer.name: {"ed25519:a_1": "A" * 86}}} for event in events]


def _of_another_room(room: PeerRoom, events: list[Any]) -> list[Any]:
    return [event.pdu for event in PeerRoom(room.peer, name="elsewhere").talk(len(events))]


def _disconnected(room: PeerRoom, events: list[Any]) -> list[Any]:
    return [room.say(f"aside {n}", known=False, prev=[room.create]).pdu for n, _ in enumerate(events)]


def _rubbish(room: PeerRoom, events: list[Any]) -> list[Any]:
    return [None, 1, "x", [], {}, {"type": 5}, {**events[0].pdu, "depth": "1"}, {**events[0].pdu, "content": 1.5}]


def _far_too_many(room: PeerRoom, events: list[Any]) -> list[Any]:
    return [event.pdu for event in events] * 20


@pytest.mark.parametrize("lie", [_unsigned, _of_another_room, _disconnected, _rubbish, _far_too_many])
def test_what_is_no_good_answer_is_not_believed(play: Play, lie: Any) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        *between, last = room.talk(4)
        room.peer.on("POST", room.path("get_missing_events"), {"events": lie(room, between)})
        await house.push(last)
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert verdicts[last.event_id] == "dropped"
        assert not any(isinstance(fact, PduFetched) for fact in house.facts())
        assert len(abandoned(house)) == 1
        await good_event_after(house, room)

    play(story)


@pytest.mark.parametrize("answer", [b"", b"nonsense", b"[]", b'{"events": 5}', b'{"events": [' + b"1," * 9 + b"1]}"])
def test_an_answer_of_another_shape_is_none(play: Play, answer: bytes) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        async def say(_: web.Request) -> web.StreamResponse:
            return web.Response(body=answer)

        last = room.talk(2)[-1]
        room.peer.on("POST", room.path("get_missing_events"), say)
        await house.push(last)
        await house.filler.fill(room.id)
        assert (await house.verdicts(room))[last.event_id] == "dropped"
        await good_event_after(house, room)

    play(story)


async def _push_what_nobody_can_tell_about(house: GapHouse, room: PeerRoom) -> Event:
    async def overloaded(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    last = room.talk(2)[-1]
    room.peer.on("POST", room.path("get_missing_events"), overloaded)
    await house.push(last)
    return last


def test_who_cannot_be_reached_is_asked_again_and_at_last_given_up(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        last = await _push_what_nobody_can_tell_about(house, room)
        with pytest.raises(Unanswered):
            await house.filler.fill(room.id)
        assert (await house.verdicts(room))[last.event_id] == "parked"
        asked = room.asked("get_missing_events")
        with pytest.raises(Unanswered):
            await house.filler.fill(room.id)
        assert room.asked("get_missing_events") == asked, "it is left alone for a while"
        await house.filler.fill(room.id, last_try=True)
        assert (await house.verdicts(room))[last.event_id] == "dropped"
        await good_event_after(house, room)

    play(story)


def test_who_answers_too_slowly_for_the_last_try_is_given_up(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        last = room.talk(2)[-1]
        room.peer.gate.clear()
        await house.push(last)
        house.filler._last_try_s = 0.5
        await house.filler.fill(room.id, last_try=True)
        room.peer.gate.set()
        assert [fact.reason for fact in abandoned(house)] == ["too_much"]
        assert await house.wants(room) == []
        assert (await house.verdicts(room))[last.event_id] == "dropped"
        await good_event_after(house, room)

    play(story)


def test_the_follower_gives_up_what_is_dead(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        last = await _push_what_nobody_can_tell_about(house, room)

        async def dropped() -> bool:
            return (await house.verdicts(room))[last.event_id] == "dropped"

        async with house.following(waits_s=(0.01, 0.01)):
            await until_async(dropped)
        await good_event_after(house, room)

    play(story)


def test_auth_events_that_nobody_has_end_in_giving_up(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        user = f"@more:{room.peer.name}"
        before = room.last
        join = room.event("m.room.member", {"membership": "join"}, user, sender=user, known=False)
        chain = list(room.state_before[before.event_id].values())
        pushed = room.event("m.room.message", {}, sender=user, prev=[before], auth=[chain[0], join.event_id])
        room.peer.on("GET", room.path("event_auth", pushed.event_id), {"auth_chain": [{"junk": 1}] * 50})
        await house.push(pushed)
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert verdicts[pushed.event_id] == "dropped"
        assert join.event_id not in verdicts
        await good_event_after(house, room)

    play(story)


def test_a_room_that_we_have_left_is_not_asked_about(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        last = room.talk(2)[-1]
        await house.push(last)
        left = room.event(
            "m.room.member",
            {"membership": "leave"},
            ALICE,
            sender=ALICE,
            prev=[room.events[i] for i in await house.extremities(room)],
        )
        await house.push(left)
        await house.filler.fill(room.id)
        assert (await house.verdicts(room))[last.event_id] == "dropped"
        assert room.asked("get_missing_events") == 0
        assert [fact.reason for fact in abandoned(house)] == [NOT_IN_ROOM]

    play(story)


def test_an_event_of_another_room_is_no_prev_event(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        elsewhere = PeerRoom(room.peer, name="elsewhere")
        strange = elsewhere.last
        room.state_before[strange.event_id] = room.state_before[room.last.event_id]
        bridging = room.event("m.room.message", {}, prev=[strange], known=False, auth=room.say("x").auth_events)
        room.peer.on("POST", room.path("get_missing_events"), {"events": [strange.pdu]})
        await house.push(bridging)
        await house.filler.fill(room.id)
        assert (await house.verdicts(room))[bridging.event_id] == "dropped"
        assert not any(isinstance(fact, PduFetched) for fact in house.facts())

    play(story)
