"""An event near a moment, where the past of a room is not here: others are asked, and what they say is looked at."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from annals.ingest.fetchers import moments as asked_moments
from annals.ingest.fetchers.moments import Moments as Asked
from annals.matrix.events import Event
from annals.queries.client_events import Viewer
from annals.queries.errors import NoAccess, NotThere
from annals.queries.moments import Moment, Moments, Near
from tests.support.gap_fixtures import Play
from tests.support.gap_house import ALICE, US, GapHouse
from tests.support.patience import PATIENCE_S
from tests.support.peer_room import NOW_MS, PeerRoom
from tests.support.scripted_peer import ScriptedPeer


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked_moments, "WAIT_S", PATIENCE_S)


def moments(house: GapHouse) -> Moments:
    asked = Asked(US, house.history._questions, house.history, house.database)
    return Moments(house.database, asked.near)


async def near(house: GapHouse, room: PeerRoom, at_ms: int, *, forwards: bool, who: str = ALICE) -> Near:
    return await moments(house).near(Viewer(who, "D", NOW_MS), room.id, Moment(at_ms, forwards))


def tells(room: PeerRoom, answer: dict[str, Any]) -> None:
    room.peer.on("GET", room.path("timestamp_to_event"), answer)


def told(event: Event) -> dict[str, Any]:
    return {"event_id": event.event_id, "origin_server_ts": event.origin_server_ts}


def found(event: Event) -> Near:
    return Near(event.event_id, event.origin_server_ts)


def test_what_another_server_has_nearer_is_fetched(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        events = list(room.events.values())
        wanted, later = events[60], events[61]
        async with house.following():
            tells(room, told(wanted))
            assert await near(house, room, wanted.origin_server_ts, forwards=True) == found(wanted)
            asked = room.asked("timestamp_to_event")
            assert asked == 1
            # The messages before it came with it: nothing is between them, and nobody is asked.
            before = events[55]
            assert await near(house, room, before.origin_server_ts, forwards=True) == found(before)
            assert await near(house, room, before.origin_server_ts, forwards=False) == found(before)
            assert room.asked("timestamp_to_event") == asked
            # Behind it is another gap.
            tells(room, told(later))
            assert await near(house, room, later.origin_server_ts, forwards=False) == found(later)

    play(story, late=120)


def test_who_lies_or_knows_nothing_changes_nothing(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        join, early = room.last, next(iter(room.events.values()))
        at_ms = early.origin_server_ts + 20

        async def nothing(_: web.Request) -> web.StreamResponse:
            return web.json_response({"errcode": "M_NOT_FOUND"}, status=404)

        room.peer.on("GET", room.path("timestamp_to_event"), nothing)
        assert await near(house, room, at_ms, forwards=True) == found(join)
        with pytest.raises(NotThere):
            await near(house, room, at_ms, forwards=False)
        lies: list[dict[str, Any]] = [
            {},
            {"event_id": 5, "origin_server_ts": at_ms},
            {"event_id": "x", "origin_server_ts": at_ms},
            {"event_id": early.event_id, "origin_server_ts": "1"},
            # In the other direction, and farther than what is here.
            {"event_id": early.event_id, "origin_server_ts": at_ms - 1},
            {"event_id": early.event_id, "origin_server_ts": join.origin_server_ts + 1},
            # Of nowhere.
            {"event_id": "$nowhere:x", "origin_server_ts": at_ms},
        ]
        for lie in lies:
            tells(room, lie)
            assert await near(house, room, at_ms, forwards=True) == found(join), lie
        for stranger in (f"@stranger:{US}", room.creator):
            asked = room.asked("timestamp_to_event")
            with pytest.raises(NoAccess):
                await near(house, room, at_ms, forwards=True, who=stranger)
            assert room.asked("timestamp_to_event") == asked

    play(story, late=40)
