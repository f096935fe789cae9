"""Below what we pulled: an event, and the state before it, as another server answers them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from aiohttp import web

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.ingest.fetchers.filling import Filler
from annals.ingest.fetchers.origins import Origins
from annals.ingest.fetchers.questions import Questions
from annals.matrix.events import Event
from annals.schemas.facts.rooms import PduFetched, StateSetClosed
from tests.support.gap_fixtures import Play
from tests.support.gap_house import US, GapHouse, ids
from tests.support.gap_stories import abandoned, deep_gap, good_event_after, no_dangling_auth, state_of
from tests.support.peer_room import PeerRoom
from tests.support.scripted_peer import ScriptedPeer

T = TypeVar("T")


@pytest.mark.parametrize("version", ["10", "12"])
def test_a_gap_too_deep_gets_an_anchor_with_its_state(play: Play, version: str) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        before = room.last
        room.event("m.room.topic", {"topic": "hidden"}, "")
        topic = room.last
        user = f"@hidden:{room.peer.name}"
        join = room.join(user)
        anchor, last = deep_gap(room)
        await house.push(last)
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert {verdicts[i] for i in (anchor.event_id, last.event_id)} == {"accepted"}
        assert {verdicts[i] for i in (topic.event_id, join.event_id)} == {"accepted*"}
        state = await state_of(house, room)
        assert state["m.room.topic", ""] == topic.event_id
        assert state["m.room.member", user] == join.event_id
        assert await house.extremities(room) == {before.event_id, last.event_id}
        [closed] = [fact for fact in house.facts() if isinstance(fact, StateSetClosed)]
        assert (closed.purpose, closed.event_id, closed.origin) == ("gap", anchor.event_id, room.peer.name)
        assert await house.wants(room) == []
        await no_dangling_auth(house, room)
        # The two ends meet in what is sent next.
        await good_event_after(house, room)

    play(story, version, rebuilt=True, in_soak=version == "10")


def test_events_that_are_here_are_neither_fetched_nor_loaded(play: Play) -> None:
    """Measure: of a state of hundreds, what is lacking and the anchor are all that is fetched."""

    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        members = [room.join(f"@member{number}:{room.peer.name}") for number in range(300)]
        await house.push(*members)
        topic = room.event("m.room.topic", {"topic": "hidden"}, "")
        last = deep_gap(room)[1]
        await house.push(last)
        loaded = house.answers.loaded
        await house.filler.fill(room.id)
        assert (await house.verdicts(room))[last.event_id] == "accepted"
        assert (await state_of(house, room))["m.room.topic", ""] == topic.event_id
        assert room.asked("state") == 0
        assert room.asked("event") == 2
        assert house.answers.loaded - loaded == 3, "the event of get_missing_events, the anchor, the topic"

    play(story)


def test_what_a_gap_costs_does_not_grow_with_the_room(play: Play) -> None:
    """Measure: reads of the tables, events that are verified, questions to the other server."""

    async def cost(house: GapHouse, room: PeerRoom, members: int) -> list[int]:
        await house.push(*[room.join(f"@member{number}:{room.peer.name}") for number in range(members)])
        hidden = room.event("m.room.topic", {"topic": "hidden"}, "")
        last = deep_gap(room)[1]
        await house.push(last)
        reads, verified, asked = Reads(house.database), house.answers.loaded, _questions(room)
        with ThreadPoolExecutor(1) as threads:
            questions = Questions(house.client, house.servers, threads)
            await Filler(US, questions, house.answers, reads, Origins(house.log.read)).fill(room.id)
        assert (await state_of(house, room))["m.room.topic", ""] == hidden.event_id
        return [reads.made, house.answers.loaded - verified, _questions(room) - asked]

    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        small = await cost(house, room, 30)
        large = await cost(house, await house.enter(PeerRoom(room.peer, name="large")), 330)
        assert large == small
        assert small[1:] == [3, 4]

    play(story)


def _questions(room: PeerRoom) -> int:
    """How many the peer got, but for its keys."""
    return sum("/key/" not in request.target for request in room.peer.requests)


@dataclass
class Reads:
    """Reads of the tables, counted."""

    database: Database
    made: int = 0

    async def read(self, fn: Callable[[Snapshot], T]) -> T:
        """See ById."""
        self.made += 1
        return await self.database.read(fn)


def test_where_most_is_lacking_the_whole_state_is_asked_for(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        hidden = [room.join(f"@hidden{number}:{room.peer.name}") for number in range(60)]
        last = deep_gap(room)[1]
        await house.push(last)
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert {verdicts[event_id] for event_id in ids(hidden)} == {"accepted*"}
        assert len(room.peer.asked(room.path("state").replace("!", "%21").replace(":", "%3A"))) == 1
        assert room.asked("event") == 1
        assert len(await state_of(house, room)) == 60 + 6

    play(story)


def test_an_auth_event_that_cannot_be_had_leaves_out_what_cites_it(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        await house.push(*[room.join(f"@member{number}:{room.peer.name}") for number in range(100)])
        user = f"@hidden:{room.peer.name}"
        join = room.join(user)
        named = room.event("m.room.member", {"membership": "join", "displayname": "x"}, user, sender=user)
        anchor, last = deep_gap(room)

        async def nothing(_: web.Request) -> web.StreamResponse:
            return web.json_response({"errcode": "M_NOT_FOUND", "error": "no"}, status=404)

        room.peer.on("GET", f"/_matrix/federation/v1/event/{join.event_id}", nothing)
        await house.push(last)
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert verdicts[last.event_id] == verdicts[anchor.event_id] == "accepted"
        assert not {join.event_id, named.event_id} & verdicts.keys()
        await no_dangling_auth(house, room)
        await good_event_after(house, room)

    play(story)


def _nothing(room: PeerRoom, anchor: Event) -> dict[str, Any]:
    return {"pdu_ids": [], "auth_chain_ids": []}


def _no_ids(room: PeerRoom, anchor: Event) -> dict[str, Any]:
    return {"pdu_ids": [1, None, {}], "auth_chain_ids": "x"}


def _the_event_itself(room: PeerRoom, anchor: Event) -> dict[str, Any]:
    # Whichever it is asked about.
    return {"pdu_ids": list(room.events), "auth_chain_ids": []}


def _another_room(room: PeerRoom, anchor: Event) -> dict[str, Any]:
    other = PeerRoom(room.peer, name="elsewhere")
    return {"pdu_ids": list(other.state_before[other.last.event_id].values()), "auth_chain_ids": []}


def _two_of_one_key(room: PeerRoom, anchor: Event) -> dict[str, Any]:
    state = room.state_before[anchor.event_id]
    twin = room.event("m.room.topic", {"topic": "twin"}, "", prev=[anchor])
    other = room.event("m.room.topic", {"topic": "other"}, "", prev=[anchor])
    return {"pdu_ids": [*state.values(), twin.event_id, other.event_id], "auth_chain_ids": []}


@pytest.mark.parametrize("lie", [_nothing, _no_ids, _the_event_itself, _another_room, _two_of_one_key])
def test_a_state_that_cannot_be_is_not_believed(play: Play, lie: Any) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        before = await state_of(house, room)
        anchor, last = deep_gap(room)
        room.peer.on("GET", room.path("state_ids"), lie(room, anchor))
        await house.push(last)
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert verdicts[last.event_id] == "dropped"
        assert await state_of(house, room) == before
        closed = any(isinstance(fact, StateSetClosed) for fact in house.facts())
        assert closed == (lie is _two_of_one_key), "what is no state at all is not even logged"
        assert await house.wants(room) == []
        await no_dangling_auth(house, room)
        await good_event_after(house, room)

    play(story)


def test_unsigned_state_is_left_out(play: Play) -> None:
    """SECURITY.md row 3, for /event and /state."""

    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        user = f"@hidden:{room.peer.name}"
        join = room.join(user)
        forged = {**join.pdu, "signatures": {room.peer.name: {"ed25519:a_1": "A" * 86}}}
        anchor, last = deep_gap(room)
        room.peer.on("GET", f"/_matrix/federation/v1/event/{join.event_id}", {"pdus": [forged]})
        state = [room.events[i].pdu for i in room.state_before[anchor.event_id].values() if i != join.event_id]
        room.peer.on("GET", room.path("state"), {"pdus": [*state, forged], "auth_chain": []})
        await house.push(last)
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert verdicts[last.event_id] == "accepted"
        assert join.event_id not in verdicts
        assert ("m.room.member", user) not in await state_of(house, room)
        await good_event_after(house, room)

    play(story)


def test_another_server_gives_the_state_that_the_first_one_has_not(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, other: ScriptedPeer) -> None:
        guest = f"@guest:{other.name}"
        room.keys[other.name] = room.keys[room.peer.name]
        other.keys = room.peer.keys
        await house.push(room.join(guest))
        anchor, last = deep_gap(room)
        refused = {"errcode": "M_FORBIDDEN", "error": "no"}

        async def no(_: web.Request) -> web.StreamResponse:
            return web.json_response(refused, status=403)

        room.peer.on("GET", room.path("state_ids"), no)
        other.on("GET", room.path("state_ids"), room._state_ids)
        other.on("GET", room.path("state"), room._state)
        other.on("GET", f"/_matrix/federation/v1/event/{anchor.event_id}", {"pdus": [anchor.pdu]})
        await house.push(last)
        await house.filler.fill(room.id)
        assert (await house.verdicts(room))[last.event_id] == "accepted"
        [closed] = [fact for fact in house.facts() if isinstance(fact, StateSetClosed)]
        assert closed.origin == other.name

    play(story)


async def _not_found(_: web.Request) -> web.StreamResponse:
    return web.json_response({"errcode": "M_NOT_FOUND", "error": "no"}, status=404)


def test_an_anchor_that_nobody_has_is_passed_over(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        anchor, last = deep_gap(room)
        room.peer.on("GET", f"/_matrix/federation/v1/event/{anchor.event_id}", _not_found)
        await house.push(last)
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert [verdicts.get(event_id) for event_id in (*last.prev_events, last.event_id)] == ["accepted", "accepted"]
        assert anchor.event_id not in verdicts
        assert await house.wants(room) == []
        assert await house.extremities(room) >= {last.event_id}
        await good_event_after(house, room)

    play(story, rebuilt=True, in_soak=True)


def test_an_event_that_does_not_pass_keeps_nobody_out_who_follows_it(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        bad, upon, last = room.talk(3)
        forged = {**bad.pdu, "signatures": {room.peer.name: {"ed25519:a_1": "A" * 86}}}
        room.peer.on("GET", f"/_matrix/federation/v1/event/{bad.event_id}", {"pdus": [forged]})
        room.peer.on("POST", room.path("get_missing_events"), {"events": [forged]})
        await house.push(upon)
        await house.filler.fill(room.id)
        assert (await house.verdicts(room))[upon.event_id] == "dropped", "who pushes it does not dictate the state"
        room.peer.on("POST", room.path("get_missing_events"), {"events": [forged, upon.pdu]})
        await house.push(last)
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert (verdicts[upon.event_id], verdicts[last.event_id]) == ("accepted", "accepted")
        assert bad.event_id not in verdicts
        await good_event_after(house, room)

    play(story)


def test_a_user_whose_join_does_not_pass_keeps_nobody_else_out(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        user = f"@odd:{room.peer.name}"
        join = room.join(user)
        said = room.say("nobody can judge this", sender=user)
        upon, last = room.talk(2)
        forged = {**join.pdu, "signatures": {room.peer.name: {"ed25519:a_1": "A" * 86}}}
        room.peer.on("GET", f"/_matrix/federation/v1/event/{join.event_id}", {"pdus": [forged]})
        told = {"events": [forged, said.pdu, upon.pdu]}
        room.peer.on("POST", room.path("get_missing_events"), told)
        room.peer.on("GET", room.path("event_auth", said.event_id), {"auth_chain": [forged]})
        state = [room.events[i].pdu for i in room.state_before[join.event_id].values()]
        room.peer.on("GET", room.path("state"), {"pdus": [*state, forged], "auth_chain": []})
        await house.push(last)
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert (verdicts[upon.event_id], verdicts[last.event_id]) == ("accepted", "accepted")
        assert verdicts[said.event_id] == "dropped"
        assert await house.wants(room) == []
        await no_dangling_auth(house, room)
        await good_event_after(house, room)

    play(story, rebuilt=True)


def test_an_anchor_that_nobody_has_or_knows_the_room_above_ends_in_giving_up(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        anchor, last = deep_gap(room)
        room.peer.on("GET", room.path("state_ids"), _not_found)
        await house.push(last)
        await house.filler.fill(room.id)
        assert (await house.verdicts(room))[last.event_id] == "dropped"
        assert [fact.event_ids for fact in abandoned(house)] == [(anchor.event_id,)]
        assert not any(isinstance(f, PduFetched) and f.purpose == "anchor" for f in house.facts())
        await good_event_after(house, room)

    play(story)
