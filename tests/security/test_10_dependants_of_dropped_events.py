"""Row 10: /event fails midway while state is fetched: nothing with a missing auth ancestor persists."""

from __future__ import annotations

import pytest
from aiohttp import web

from annals.ingest.fetchers.filling import Unanswered
from annals.schemas.facts.rooms import StateSetClosed
from tests.support.gap_fixtures import Play
from tests.support.gap_house import GapHouse
from tests.support.gap_stories import deep_gap, good_event_after, no_dangling_auth
from tests.support.peer_room import PeerRoom
from tests.support.scripted_peer import ScriptedPeer


def test_event_fails_midway_and_nothing_with_a_missing_auth_ancestor_persists(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        await house.push(*[room.join(f"@member{number}:{room.peer.name}") for number in range(100)])
        user = f"@hidden:{room.peer.name}"
        join = room.join(user)
        named = room.event("m.room.member", {"membership": "join", "displayname": "x"}, user, sender=user)
        anchor, last = deep_gap(room)

        async def breaks_off(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.close()
            return web.Response()

        room.peer.on("GET", f"/_matrix/federation/v1/event/{named.event_id}", breaks_off)
        await house.push(last)
        with pytest.raises(Unanswered):
            await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert verdicts[last.event_id] == "parked"
        assert not {join.event_id, named.event_id, anchor.event_id} & verdicts.keys()
        await no_dangling_auth(house, room)
        assert not any(isinstance(fact, StateSetClosed) for fact in house.facts())
        await house.filler.fill(room.id, last_try=True)
        assert (await house.verdicts(room))[last.event_id] == "dropped"
        await no_dangling_auth(house, room)
        await good_event_after(house, room)

    play(story)
