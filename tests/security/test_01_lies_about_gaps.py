"""Row 1, for gaps: whatever JSON comes as an answer while a gap is filled, good events are taken afterwards, and the
next gap is filled."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from annals.ingest.fetchers.filling import Unanswered
from tests.support.gap_house import gap_house
from tests.support.gap_stories import deep_gap, good_event_after
from tests.support.peer_room import PeerRoom
from tests.support.postgres import PostgresServer
from tests.support.scripted_peer import Authority, ScriptedPeer
from tests.support.spare_tables import spare_tables
from tests.support.spoiling import Lying, Spoilt, lies

_numbers = itertools.count(1)


class LyingPeer(Lying, ScriptedPeer):
    """A peer with good answers that are spoilt."""


PULLED = ("get_missing_events", "state_ids", "state", "event", "event_auth")
_rounds = st.lists(st.dictionaries(st.sampled_from(PULLED), lies, min_size=1, max_size=3), min_size=3, max_size=3)


@settings(max_examples=2, phases=[Phase.generate])
@given(rounds=_rounds)
def test_gaps(
    postgres: PostgresServer, gap_authority: Authority, tmp_path: Path, rounds: list[dict[str, Spoilt]]
) -> None:
    folder = tmp_path / f"house{next(_numbers)}"
    folder.mkdir()

    async def run(url: str) -> None:
        async with LyingPeer(gap_authority, folder) as peer, gap_house(url, folder, gap_authority) as house:
            peer.lie_about = {}
            room = await house.enter(PeerRoom(peer))
            for told in rounds:
                peer.lie_about = {part: lie.of for part, lie in told.items()}
                # Or it would be left alone after the first lie that is no answer.
                house.servers.heard_from(peer.name)
                room._serve()
                room.event("m.room.topic", {"topic": "hidden"}, "")
                last = deep_gap(room)[1]
                await house.push(last)
                with suppress(Unanswered):
                    await house.filler.fill(room.id, last_try=True)
                peer.lie_about = {}
                await good_event_after(house, room)
            house.servers.heard_from(peer.name)
            room._serve()
            between = room.say("between", prev=[room.events[i] for i in await house.extremities(room)])
            last = room.say("last")
            await house.push(last)
            await house.filler.fill(room.id)
            verdicts = await house.verdicts(room)
            assert (verdicts[between.event_id], verdicts[last.event_id]) == ("accepted", "accepted")

    with spare_tables(postgres).tables() as url:
        asyncio.run(run(url))
