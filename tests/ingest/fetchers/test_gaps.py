"""Gaps below pushed events, filled by what other servers answer, and given up where they have nothing good."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from annals.ingest.fetchers import filling
from annals.ingest.fetchers.filling import MISSING_EVENTS_ROUNDS, NOBODY_HAS_IT, NOT_IN_ROOM, Unanswered
from annals.matrix.events import Event
from annals.schemas.facts.rooms import PduFetched
from tests.support.gap_fixtures import Play
from tests.support.gap_house import ALICE, GapHouse, ids, until
from tests.support.gap_stories import abandoned, good_event_after
from tests.support.peer_room import PeerRoom, signing_key
from tests.support.scripted_peer import ScriptedPeer


@pytest.mark.parametrize(("lacking", "questions"), [(1, 1), (5, 1), (50, 3)])
def test_a_gap_is_filled_by_missing_events(play: Play, lacking: int, questions: int) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        *between, last = room.talk(lacking + 1)
        await house.push(last)
        assert (await house.verdicts(room))[last.event_id] == "parked"
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert {verdicts[event_id] for event_id in ids([*between, last])} == {"accepted"}
        assert await house.extremities(room) == {last.event_id}
        assert await house.wants(room) == []
        assert room.asked("get_missing_events") == questions
        purposes = {fact.purpose for fact in house.facts() if isinstance(fact, PduFetched)}
        assert purposes == {"missing_events"}
        await good_event_after(house, room)

    play(story)


def test_the_follower_fills_gaps_of_a_notice_and_of_before_its_start(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        first = room.talk(2)[-1]
        await house.push(first)
        async with house.following():

            async def filled() -> bool:
                return not await house.wants(room)

            await until(filled)
            assert (await house.verdicts(room))[first.event_id] == "accepted"
            second = room.talk(3)[-1]
            await house.push(second)
            await until(filled)
            assert (await house.verdicts(room))[second.event_id] == "accepted"

    play(story)


def test_both_branches_of_a_fork_are_fetched(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        base = room.last
        left = room.say("left", prev=[base])
        right = [room.say("right", prev=[base]), room.say("right again")]
        merge = room.say("both", prev=[left, right[-1]])
        await house.push(merge)
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert {verdicts[i] for i in ids([left, *right, merge])} == {"accepted"}
        assert await house.extremities(room) == {merge.event_id}

    play(story)


def test_another_server_is_asked_where_the_origin_has_nothing(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, other: ScriptedPeer) -> None:
        guest = f"@guest:{other.name}"

        room.keys[other.name] = signing_key(other, 6)
        await house.push(room.join(guest))
        between, last = room.say("between"), room.say("last", sender=guest)
        other.on("POST", room.path("get_missing_events"), {"events": []})
        await house.push(last)
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert (verdicts[between.event_id], verdicts[last.event_id]) == ("accepted", "accepted")
        assert len(other.asked(room.path("get_missing_events").replace("!", "%21").replace(":", "%3A"))) == 1

    play(story)


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
            await until(dropped)
        await good_event_after(house, room)

    play(story)


def test_missing_auth_events_are_fetched(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        base = room.last
        # A join and a change of the levels in a branch that we do not get as such.
        user = f"@more:{room.peer.name}"
        join = room.join(user)
        aside = room.say("hello", sender=user, prev=[join])
        pushed = room.event("m.room.message", {"body": "by citing"}, sender=user, prev=[base], auth=aside.auth_events)
        room.serve_auth_of(pushed)
        await house.push(pushed)
        assert await house.wants(room) == [(join.event_id, "auth")]
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert verdicts[join.event_id] == "accepted*"
        # Check 5 goes by the state before it, in which the user is not.
        assert verdicts[pushed.event_id] == "rejected"
        assert await house.wants(room) == []
        await good_event_after(house, room)

    play(story)


def test_what_one_run_may_not_ask_about_the_next_one_does(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "AUTH_PER_RUN", 1)

    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        base = room.last
        for name in ("more", "and_more"):
            user = f"@{name}:{room.peer.name}"
            join = room.event("m.room.member", {"membership": "join"}, user, sender=user, prev=[base])
            aside = room.say("hello", sender=user, prev=[join])
            pushed = room.event("m.room.message", {}, sender=user, prev=[base], auth=aside.auth_events)
            room.serve_auth_of(pushed)
            await house.push(pushed)
        with pytest.raises(Unanswered):
            await house.filler.fill(room.id)
        assert len(await house.wants(room)) == 1
        await house.filler.fill(room.id)
        assert await house.wants(room) == []
        assert abandoned(house) == []

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


def test_one_process_at_a_time_fills_a_room(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        last = room.talk(2)[-1]
        room.peer.gate.clear()
        await house.push(last)

        async def asked() -> bool:
            return room.asked("get_missing_events") == 1

        async def filled() -> bool:
            return not await house.wants(room)

        async with house.following(owner="one"):
            await until(asked)
            async with house.following(owner="two") as second:
                second.moved([room.id])

                async def stands_by() -> bool:
                    return room.id in second._later

                await until(stands_by)
                assert room.asked("get_missing_events") == 1
                room.peer.gate.set()
                await until(filled)
        assert room.asked("get_missing_events") == 1

    play(story)


def test_a_follower_that_ends_in_the_midst_leaves_the_rest_to_the_next(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        last = room.talk(2)[-1]
        room.peer.gate.clear()
        await house.push(last)

        async def asked() -> bool:
            return room.asked("get_missing_events") == 1

        async with house.following():
            await until(asked)
        room.peer.gate.set()
        assert (await house.verdicts(room))[last.event_id] == "parked"

        async def filled() -> bool:
            return not await house.wants(room)

        async with house.following(owner="two"):
            await until(filled)
        assert (await house.verdicts(room))[last.event_id] == "accepted"

    play(story)


def test_gaps_of_two_origins_are_filled_each_by_its_own(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, other: ScriptedPeer) -> None:
        room.keys[other.name] = signing_key(other, 6)
        guest = f"@guest:{other.name}"
        base = room.join(guest)
        await house.push(base)
        theirs = [room.say("theirs", sender=guest, prev=[base]), room.say("theirs again", sender=guest)]
        mine = [room.say("mine", prev=[base]), room.say("mine again")]
        first, second = theirs[0].pdu, mine[0].pdu
        other.on("POST", room.path("get_missing_events"), {"events": [first]})
        room.peer.on("POST", room.path("get_missing_events"), {"events": [second]})
        await house.push(theirs[1], mine[1])
        assert await house.filler.origin_of(room.id) == other.name
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert {verdicts[event_id] for event_id in ids([*theirs, *mine])} == {"accepted"}
        assert await house.extremities(room) == {theirs[1].event_id, mine[1].event_id}
        fetched = {fact.event_id: fact.origin for fact in house.facts() if isinstance(fact, PduFetched)}
        assert fetched == {theirs[0].event_id: other.name, mine[0].event_id: room.peer.name}

    play(story)


def test_however_many_servers_brought_gaps_each_is_asked_about(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        base = room.last
        forks = [(room.say("lacking", prev=[base]), room.say("pushed")) for _ in range(MISSING_EVENTS_ROUNDS + 2)]
        for number, fork in enumerate(forks):
            await house.push(fork[1], origin=f"gone{number}.invalid")
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert {verdicts.get(event_id) for fork in forks for event_id in ids(fork)} == {"accepted"}
        assert abandoned(house) == []

    play(story)


def test_what_is_fetched_is_taken_whatever_the_acl_says_of_its_senders_server(play: Play) -> None:
    """Server-server API, "Server Access Control Lists": of requests, and of the PDUs of a transaction."""

    async def story(house: GapHouse, room: PeerRoom, other: ScriptedPeer) -> None:
        room.keys[other.name] = signing_key(other, 6)
        guest = f"@guest:{other.name}"
        acl = {"allow": ["*"], "deny": [other.name.partition(":")[0]]}
        await house.push(room.join(guest), room.event("m.room.server_acl", acl, ""))
        denied, last = room.say("from a denied server", sender=guest), room.say("upon it")
        await house.push(last)
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert (verdicts[denied.event_id], verdicts[last.event_id]) == ("accepted", "accepted")

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


def test_a_fork_of_many_ends_is_put_together_again(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        base = room.last
        ends = [room.say(f"end {number}", prev=[base]) for number in range(60)]
        merges = [room.say("merge", prev=ends[start : start + 20]) for start in (0, 20, 40)]
        last = room.say("all", prev=merges)
        await house.push(last)
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert verdicts[last.event_id] == "accepted"
        assert await house.wants(room) == []
        assert await house.extremities(room) == {last.event_id}
        await good_event_after(house, room)

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
