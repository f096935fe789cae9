"""The past of a room that we came into late, fetched page by page."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import orjson
import pytest
from aiohttp import web

from annals.ingest.fetchers.history import EVENTS_MAX, EVENTS_MIN
from annals.queries.client_events import Viewer
from annals.queries.messages import Messages, MessagesWanted
from annals.queries.places import PlaceReader
from annals.queries.sync.filters import EventFilter
from annals.schemas.facts.rooms import PduFetched
from tests.support.gap_fixtures import Play
from tests.support.gap_house import ALICE, GapHouse, ids
from tests.support.gap_stories import deep_gap
from tests.support.peer_room import NOW_MS, PeerRoom
from tests.support.scripted_peer import ScriptedPeer


class Pages:
    """A client that pages backwards."""

    def __init__(self, house: GapHouse, room: PeerRoom) -> None:
        self.house, self.room = house, room
        self.messages = Messages(house.database, PlaceReader(house.log.log_id), house.history.fetch)

    async def page(self, token: str | None = None, limit: int = 100) -> Any:
        wanted = MessagesWanted(backwards=True, from_token=token, limit=limit)
        return orjson.loads(await self.messages.messages(Viewer(ALICE, "D", NOW_MS), self.room.id, wanted))

    async def all(self, limit: int = 100) -> list[str]:
        """All event ids, newest first."""
        found: list[str] = []
        token = None
        while True:
            page = await self.page(token, limit)
            found += [event["event_id"] for event in page["chunk"]]
            token = page.get("end")
            if token is None:
                return found


def remote(house: GapHouse) -> AbstractAsyncContextManager[Any]:
    """The process that gives the lowest of what came an anchor."""
    return house.following()


def test_paging_back_reaches_the_create_event(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        async with remote(house):
            found = await Pages(house, room).all(limit=30)
        assert found == list(reversed(ids(room.events.values())))
        assert {fact.purpose for fact in house.facts() if isinstance(fact, PduFetched)} >= {"backfill", "anchor"}
        assert room.asked("backfill") > 1
        verdicts = await house.verdicts(room)
        assert set(verdicts.values()) == {"accepted"}
        # Nothing of it is new to anybody.
        rows = await house.rows(
            "SELECT count(*) FROM events WHERE room_id = %s AND NOT outlier AND NOT backfilled", room.id
        )
        assert rows == [(1,)], "our join alone"
        asked = room.asked("backfill")
        assert len(await Pages(house, room).all()) == len(room.events)
        assert room.asked("backfill") == asked, "what is here is not asked for again"

    play(story, late=3 * EVENTS_MIN, rebuilt=True)


def test_a_short_past_needs_no_anchor(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        found = await Pages(house, room).all()
        assert found == list(reversed(ids(room.events.values())))
        assert room.asked("state_ids") == 0

    play(story, late=10)


def test_where_nobody_has_the_past_the_client_is_answered_and_nobody_asked_again(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        room.peer.on("GET", room.path("backfill"), {"pdus": []})
        pages = Pages(house, room)
        page = await pages.page()
        assert [event["event_id"] for event in page["chunk"]] == [room.last.event_id]
        asked = room.asked("backfill")
        assert asked == 1
        assert (await pages.page(page["end"])).get("end") is None, "no client pages for ever"
        assert room.asked("backfill") == asked

    play(story, late=10)


def test_a_dead_server_costs_one_question(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        async def overloaded(_: web.Request) -> web.StreamResponse:
            return web.Response(status=503)

        room.peer.on("GET", room.path("backfill"), overloaded)
        pages = Pages(house, room)
        for _again in range(3):
            page = await pages.page()
            assert [event["event_id"] for event in page["chunk"]] == [room.last.event_id]
        assert room.asked("backfill") == 1

    play(story, late=10)


def test_lies_about_the_past_are_not_believed(play: Play) -> None:
    """SECURITY.md rows 3 and 7 for /backfill: unsigned, of another room, of nowhere."""

    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        [edge] = room.last.prev_events
        forged = {**room.events[edge].pdu, "signatures": {room.peer.name: {"ed25519:a_1": "A" * 86}}}
        aside = room.say("aside", prev=[room.create], known=False)
        other = PeerRoom(room.peer, name="elsewhere").last
        room.peer.on("GET", room.path("backfill"), {"pdus": [forged, aside.pdu, other.pdu, 5, {}]})
        before = await house.verdicts(room)
        page = await Pages(house, room).page()
        assert [event["event_id"] for event in page["chunk"]] == [room.last.event_id]
        assert await house.verdicts(room) == before

    play(story, late=10)


def unsigned(room: PeerRoom, event_id: str) -> None:
    """From now on the peer has this event with a signature that is none; the id is the same."""
    event = room.events[event_id]
    room.take(replace(event, pdu={**event.pdu, "signatures": {room.peer.name: {"ed25519:a_1": "A" * 86}}}))


@pytest.mark.parametrize("place", [-2, 30], ids=["the edge", "in its midst"])
def test_an_event_that_fails_checks_does_not_hide_what_was_before_it(play: Play, place: int) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        told = ids(room.events.values())
        unsigned(room, told[place])
        async with remote(house):
            found = await Pages(house, room).all(limit=20)
        assert found == [event_id for event_id in reversed(told) if event_id != told[place]]
        assert {*(await house.verdicts(room)).values()} == {"accepted"}
        assert {fact.reason for fact in house.facts("quarantine")} == {"signature_invalid"}

    play(story, late=60, rebuilt=True, in_soak=True)


def test_one_that_is_passed_over_at_each_page_does_not_hide_the_other_edges(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        told = ids(room.events.values())
        unsigned(room, told[-2])

        async def deepest_first(request: web.Request) -> web.StreamResponse:
            start = max(told.index(event_id) for event_id in request.query.getall("v"))
            count = int(request.query["limit"])
            return web.json_response({"pdus": [room.events[i].pdu for i in reversed(told[: start + 1][-count:])]})

        room.peer.on("GET", room.path("backfill"), deepest_first)
        async with remote(house):
            # The past is fetched twice for a page of all that is here; the second time it has both edges: the bad event
            # and the end of what came the first time.
            page = await Pages(house, room).page(limit=500)
        assert len(page["chunk"]) > EVENTS_MAX + 1

    play(story, late=2 * EVENTS_MAX + 50)


def test_context_at_the_edge_has_the_past_fetched(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        messages = Pages(house, room).messages
        text = await messages.context(Viewer(ALICE, "D", NOW_MS), room.id, room.last.event_id, 8, EventFilter())
        before = orjson.loads(text)["events_before"]
        assert [event["event_id"] for event in before] == list(reversed(ids(room.events.values())))[1:5]

    play(story, late=10)


def test_a_hole_that_a_gap_left_is_filled_when_somebody_pages_over_it(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        hidden_and_more = 2 + len(room.events)
        last = deep_gap(room, hidden=30)[1]
        await house.push(last)
        await house.filler.fill(room.id)
        assert len(await house.verdicts(room)) == hidden_and_more + 1
        async with remote(house):
            found = await Pages(house, room).all(limit=10)
        assert found == list(reversed(ids(room.events.values())))

    play(story)
