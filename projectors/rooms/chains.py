"""Keeping the chain cover: what a batch decided gets its places, after one look-up for all of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

from annals.database.rows import Rows
from annals.matrix.events import Event
from annals.matrix.quick import quick
from annals.projectors.rooms import tables
from annals.projectors.work import Answers, Wants
from annals.rooms.ancestors import cited_ids
from annals.rooms.auth_chains import ChainCover, Citing, Placed
from annals.rooms.needs import Needs
from annals.rooms.out_of_band import OUT_OF_BAND
from annals.rooms.view import PLACED
from annals.schemas.facts.decisions import Decision, Verdict


@quick
@dataclass(frozen=True, slots=True)
class InRoom:
    """A state event that a step decided about. `is_new`: no table has anything of it."""

    room_id: str
    event: Citing
    is_new: bool


def may_be_cited(decisions: Iterable[Decision], event_at: Callable[[int], Event | None]) -> list[InRoom]:
    """The state events of a step, which shall have a place. `event_at` gives the events that its decisions are about,
    by the offsets of their facts."""
    found = []
    for decision in decisions:
        # What was taken out of band has passed no check: nothing accepted rests on it before it has.
        if isinstance(decision, Verdict) and decision.verdict in PLACED and decision.reason != OUT_OF_BAND:
            event = event_at(decision.source)
            if event is not None and event.state_key is not None:
                found.append(InRoom(decision.room_id, _citing(event, decision), decision.first))
    return found


def _citing(event: Event, decision: Verdict) -> Citing:
    cited = cited_ids(decision.room_id, event.event_id, event.type, event.auth_events, event.rules)
    return Citing(event.event_id, (event.type, event.state_key), cited, decision.position)


def place(events: Sequence[InRoom]) -> Generator[Wants, Answers, Rows]:
    """The rows of the places of these events, given in their order. One look-up, whatever their number."""
    rows = Rows()
    if not events:
        return rows
    answers: Answers = yield Wants(rooms=Needs(cited=frozenset(_looked_up(events))))
    by_room: dict[str, list[Citing]] = {}
    for of in events:
        by_room.setdefault(of.room_id, []).append(of.event)
    for room_id, decided in by_room.items():
        found = answers.rooms.get(room_id)
        _place_in_room(room_id, decided, found.cited.values() if found else (), rows)
    return rows


def _looked_up(events: Sequence[InRoom]) -> set[tuple[str, str]]:
    """What may have a place already: not the events that these steps were the first to decide about, of which a large
    room has thousands. But of each room something, as one that has no places at all is given them."""
    new = {(of.room_id, of.event.event_id) for of in events if of.is_new}
    wanted = {(of.room_id, name) for of in events for name in (of.event.event_id, *of.event.cited)} - new
    rooms = {room_id for room_id, _ in wanted}
    return wanted | {(of.room_id, of.event.event_id) for of in events if of.room_id not in rooms}


def _place_in_room(room_id: str, decided: Sequence[Citing], found: Iterable[Citing], rows: Rows) -> None:
    cover = ChainCover(found)
    for placed in cover.adopt():
        _add_rows(room_id, placed, rows)
    for event in decided:
        for placed in cover.add(event):
            _add_rows(room_id, placed, rows)


def _add_rows(room_id: str, placed: Placed, rows: Rows) -> None:
    place = (placed.place.chain_id, placed.place.sequence)
    rows.insert_values(tables.AUTH_CHAINS, (room_id, placed.event_id, *place, *placed.key))
    for link in placed.links:
        rows.insert_values(tables.AUTH_CHAIN_LINKS, (room_id, link.chain_id, *place, link.sequence))
