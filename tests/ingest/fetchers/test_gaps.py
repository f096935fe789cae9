"""Gaps below pushed events, filled by what other servers answer."""

from __future__ import annotations

import pytest

from annals.ingest.fetchers import runs
from annals.ingest.fetchers.asking import MISSING_EVENTS_ROUNDS
from annals.ingest.fetchers.filling import Unanswered
from annals.schemas.facts.rooms import PduFetched
from tests.support.gap_fixtures import Play
from tests.support.gap_house import GapHouse, ids
from tests.support.gap_stories import abandoned, good_event_after
from tests.support.peer_room import PeerRoom, signing_key
from tests.support.scripted_peer import ScriptedPeer
from tests.support.waiting import until_async


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

            await until_async(filled)
            assert (await house.verdicts(room))[first.event_id] == "accepted"
            second = room.talk(3)[-1]
            await house.push(second)
            await until_async(filled)
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
    monkeypatch.setattr(runs, "AUTH_PER_RUN", 1)

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
            await until_async(asked)
            async with house.following(owner="two") as second:
                second.moved([room.id])

                async def stands_by() -> bool:
                    return room.id in second._later

                await until_async(stands_by)
                assert room.asked("get_missing_events") == 1
                room.peer.gate.set()
                await until_async(filled)
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
            await until_async(asked)
        room.peer.gate.set()
        assert (await house.verdicts(room))[last.event_id] == "parked"

        async def filled() -> bool:
            return not await house.wants(room)

        async with house.following(owner="two"):
            await until_async(filled)
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
