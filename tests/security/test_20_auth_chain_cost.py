"""Row 20: auth graphs made to keep us busy: the work for one event is bounded, and others go on."""

from __future__ import annotations

from annals.ingest.fetchers.by_id import CLOSING_EVENTS_MAX, CLOSING_ROUNDS_MAX
from annals.matrix.events import Event
from tests.support.gap_fixtures import Play
from tests.support.gap_house import GapHouse
from tests.support.gap_stories import good_event_after, no_dangling_auth
from tests.support.peer_room import PeerRoom
from tests.support.scripted_peer import ScriptedPeer

MORE_THAN_ENOUGH = 3 * CLOSING_ROUNDS_MAX


def levels(room: PeerRoom, number: int, auth: list[str]) -> Event:
    """Power levels that cite what we do not have; the peer tells of them."""
    base = room.state_before[room.last.event_id]
    cited = [base["m.room.create", ""], base["m.room.member", room.creator], *auth]
    content = {"users": {room.creator: 100}, "number": number}
    aside = room.event("m.room.power_levels", content, "", auth=cited, prev=[room.create], known=False)
    room.peer.on("GET", f"/_matrix/federation/v1/event/{aside.event_id}", {"pdus": [aside.pdu]})
    return aside


def test_a_deep_auth_graph_is_followed_so_far_and_no_further(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        deepest: list[str] = []
        for number in range(MORE_THAN_ENOUGH):
            deepest = [levels(room, number, deepest or ["$" + "A" * 43]).event_id]
        pushed = room.event("m.room.message", {}, auth=[room.create.event_id, *deepest], known=False)
        await house.push(pushed)
        await house.filler.fill(room.id)
        verdicts = await house.verdicts(room)
        assert verdicts[pushed.event_id] == "dropped"
        assert room.asked("event") <= CLOSING_ROUNDS_MAX + 2
        assert deepest[0] not in verdicts
        await no_dangling_auth(house, room)
        await good_event_after(house, room)

    play(story)


def test_a_wide_auth_graph_is_followed_for_so_many_events(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        number = 0
        layer = [f"${n:043d}" for n in range(1000)]
        while len(layer) > 1:
            above = []
            for start in range(0, len(layer), 8):
                above.append(levels(room, number, layer[start : start + 8]).event_id)
                number += 1
            layer = above
        pushed = room.event("m.room.message", {}, auth=[room.create.event_id, *layer], known=False)
        await house.push(pushed)
        await house.filler.fill(room.id)
        assert (await house.verdicts(room))[pushed.event_id] == "dropped"
        assert room.asked("event") <= CLOSING_EVENTS_MAX + 10
        await no_dangling_auth(house, room)
        await good_event_after(house, room)

    play(story)


def test_an_answer_with_many_other_events_is_taken_as_far_as_it_is_of_use(play: Play) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        useless = [levels(room, number, []) for number in range(300)]
        useful = levels(room, 1000, [])
        pushed = room.event("m.room.message", {}, auth=[room.create.event_id, useful.event_id], known=False)
        chain = [event.pdu for event in (*useless, useful)]
        room.peer.on("GET", room.path("event_auth", pushed.event_id), {"auth_chain": chain})
        await house.push(pushed)
        loaded = house.answers.loaded
        await house.filler.fill(room.id)
        assert house.answers.loaded - loaded == 1
        verdicts = await house.verdicts(room)
        assert useful.event_id in verdicts
        assert not {event.event_id for event in useless} & verdicts.keys()

    play(story)
