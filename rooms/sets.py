"""Sets from outside: the state of a room before an event, as another server has answered it.

Its ids come in chunks, and the events that we lacked, each with a verdict of its own, as outliers. The state is what is
here of the ids that have the role state, without what was rejected. A set with two events for one key, or without the
room's create event, is wrong: nothing is made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from annals.matrix.auth_events import CREATE
from annals.matrix.events import StateKey
from annals.rooms.ancestors import missing_ancestors
from annals.rooms.handshakes import queue_holder
from annals.rooms.judging import Arrival, judge
from annals.rooms.needs import Glimpse, Needs
from annals.rooms.state import EMPTY_STATE_ID, Lacking, RoomState
from annals.rooms.step import Step
from annals.rooms.view import PLACED, RoomView, glimpse_of
from annals.schemas.facts.decisions import SetGathered
from annals.schemas.facts.rooms import StateSetChunk, StateSetClosed

STATE = "state"

INCOMPLETE = "set_incomplete"
TWO_OF_ONE_KEY = "set_has_two_events_of_one_key"
OTHER_CREATE = "set_has_another_create_event"


@dataclass(frozen=True, slots=True)
class WrongSet:
    """Why nothing can be made of a set."""

    reason: str


def gather(step: Step, fact: StateSetChunk, source: int) -> None:
    """Hold the ids of a chunk until their set is closed."""
    if fact.role == STATE:
        beside = step.view.beside
        if fact.set_id not in beside.sets and queue_holder(step) is not None:
            # Asked for while it is empty: the view of a room that is being joined has the rest by itself.
            raise Lacking(Needs(sets=frozenset([(step.view.room_id, fact.set_id)])))
        ids = (*beside.chunks.get(fact.set_id, ()), *fact.event_ids)
        step.view = step.view.with_beside(replace(beside, chunks=beside.chunks.set(fact.set_id, ids)))
    step.decide(SetGathered, source, set_id=fact.set_id, role=fact.role, count=len(fact.event_ids))


def entries_of_set(step: Step, fact: StateSetClosed, room_version: str) -> dict[StateKey, str] | WrongSet:
    """The state that a set stands for."""
    ids = _ids_of(step.view, fact.set_id)
    if len(ids) != fact.state_count:
        return WrongSet(INCOMPLETE)
    glimpses = _glimpses(step.view, ids)
    if any(glimpse is not None and glimpse.out_of_band for glimpse in glimpses):
        _check_what_was_not(step, glimpses)
        glimpses = _glimpses(step.view, ids)
    entries: dict[StateKey, str] = {}
    for glimpse in glimpses:
        if glimpse is None or glimpse.state_key is None or glimpse.room_version != room_version:
            continue
        if glimpse.verdict in PLACED and not glimpse.out_of_band:
            key = glimpse.type, glimpse.state_key
            if entries.setdefault(key, glimpse.event_id) != glimpse.event_id:
                return WrongSet(TWO_OF_ONE_KEY)
    known = step.header.create_event_id
    if CREATE not in entries or known not in (None, entries[CREATE]):
        return WrongSet(OTHER_CREATE)
    return entries


def make_state(step: Step, entries: Mapping[StateKey, str]) -> RoomState:
    """The state as one of the room's: as its difference from the current one, if there is one; so that it is cheap to
    resolve the two, and to store it."""
    base = step.view.current_state()
    if base.state_id == EMPTY_STATE_ID:
        return step.root_state(entries)
    old = base.entries()
    delta: dict[StateKey, str | None] = {key: new for key, new in entries.items() if old.get(key) != new}
    delta.update({key: None for key in old if key not in entries})
    return step.follow_state(base, delta) if delta else base


def ask_for_set(step: Step, fact: StateSetClosed) -> None:
    """One round for what every closing reads."""
    view = step.view
    needs = Needs(
        sets=frozenset([(view.room_id, fact.set_id)] if fact.set_id not in view.beside.sets else ()),
        events=frozenset([(view.room_id, fact.event_id)] if fact.event_id not in view.events else ()),
    )
    if needs:
        raise Lacking(needs)


def _ids_of(view: RoomView, set_id: str) -> tuple[str, ...]:
    stored = view.beside.sets.get(set_id)
    if stored is None:
        raise Lacking(Needs(sets=frozenset([(view.room_id, set_id)])))
    # In the order of the tables, wherever the batches ended.
    return tuple(sorted({*stored, *view.beside.chunks.get(set_id, ())}))


def _glimpses(view: RoomView, ids: Iterable[str]) -> list[Glimpse | None]:
    """What is here of these events; raises one Lacking for all that are not loaded."""
    found: list[Glimpse | None] = []
    lacking = []
    for event_id in ids:
        # What was decided since the tables were read is younger than they are.
        entry = view.events.get(event_id)
        if entry is not None:
            found.append(glimpse_of(entry))
        elif event_id in view.beside.glimpses:
            found.append(view.beside.glimpses[event_id])
        elif event_id in view.events:
            found.append(None)
        else:
            lacking.append((view.room_id, event_id))
    if lacking:
        raise Lacking(Needs(glimpses=frozenset(lacking)))
    return found


def _check_what_was_not(step: Step, glimpses: Iterable[Glimpse | None]) -> None:
    """An invite that was taken out of band has passed no check: it passes check 4 now, or is left out of the state."""
    for glimpse in glimpses:
        if glimpse is None or not glimpse.out_of_band:
            continue
        entry = step.view.entry(glimpse.event_id)
        if entry is not None and missing_ancestors(step.view, entry.event, outlier=True) == ((), ()):
            judge(step, Arrival(entry.event, entry.source, False, True, False, entry.idempotency_key))
