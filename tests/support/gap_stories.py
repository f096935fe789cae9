"""What stories of gaps have in common."""

from __future__ import annotations

from annals.matrix.events import Event
from annals.schemas.facts.rooms import GapAbandoned
from tests.support.gap_house import GapHouse
from tests.support.peer_room import PeerRoom


async def good_event_after(house: GapHouse, room: PeerRoom) -> None:
    """Whatever happened: a good event is still accepted."""
    known = [room.events[i] for i in await house.extremities(room) if i in room.events]
    good = room.say("good", prev=known)
    await house.push(good)
    assert (await house.verdicts(room))[good.event_id] == "accepted"


def abandoned(house: GapHouse) -> list[GapAbandoned]:
    return [fact for fact in house.facts() if isinstance(fact, GapAbandoned)]


def deep_gap(room: PeerRoom, hidden: int = 3) -> tuple[Event, Event]:
    """Events of which get_missing_events tells the last ones only: (the last that it does not tell, what is pushed)."""
    anchor = room.talk(hidden)[-1]
    told = room.say("told")
    last = room.say("last")

    room.peer.on("POST", room.path("get_missing_events"), {"events": [told.pdu]})
    return anchor, last


async def state_of(house: GapHouse, room: PeerRoom) -> dict[tuple[str, str], str]:
    rows = await house.rows("SELECT type, state_key, event_id FROM current_state WHERE room_id = %s", room.id)
    return {(event_type, state_key): event_id for event_type, state_key, event_id in rows}


async def no_dangling_auth(house: GapHouse, room: PeerRoom) -> None:
    """No event stands in the tables of which an auth event does not."""
    rows = await house.rows(
        "SELECT e.event_id, a.event_id FROM events e, unnest(e.auth_events) AS a(event_id) WHERE e.room_id = %s"
        " AND e.verdict NOT IN ('parked', 'dropped') AND NOT EXISTS (SELECT 1 FROM events k"
        " WHERE k.room_id = e.room_id AND k.event_id = a.event_id AND k.verdict NOT IN ('parked', 'dropped'))",
        room.id,
    )
    assert rows == []
