"""A PDU comes in: known, duplicate, parked, or judged."""

from __future__ import annotations

from annals.matrix.canonical_json import loads
from annals.matrix.events import Event, event_of, merge
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.rooms.judging import Arrival, judge
from annals.rooms.needs import FirstOfKey, Needs
from annals.rooms.parking import close_wanted, drop_for_lack, missing_ancestors, park
from annals.rooms.state import Lacking
from annals.rooms.step import Step
from annals.rooms.view import DROPPED, Entry
from annals.schemas.facts.decisions import Duplicate, Skipped
from annals.schemas.facts.rooms import PduCreated, PduFact, PduFetched

BACKFILL = "backfill"
#: Purposes of a fetch whose events stand outside the timeline.
_OUTLIER_PURPOSES = frozenset(("state", "auth"))

OTHER_ROOM_VERSION = "other_room_version"
UNKNOWN_ROOM_VERSION = "unknown_room_version"
OTHER_ROOM = "other_room"


def admit(step: Step, fact: PduFact, source: int) -> None:
    """Take a PDU as far as it goes: to a verdict, or to the parking place."""
    rules = step.header.rules
    if rules is not None and rules.version != fact.room_version:
        step.decide(Skipped, source, reason=OTHER_ROOM_VERSION, event_id=fact.event_id)
        return
    if fact.room_version not in ROOM_VERSIONS:
        step.decide(Skipped, source, reason=UNKNOWN_ROOM_VERSION, event_id=fact.event_id)
        return
    event = event_in(fact)
    if event.room_id != step.view.room_id:
        step.decide(Skipped, source, reason=OTHER_ROOM, event_id=fact.event_id)
        return
    _ask_at_once(step, fact, event)
    old = step.view.entry(fact.event_id)
    outlier = isinstance(fact, PduFetched) and fact.purpose in _OUTLIER_PURPOSES
    if old is not None and _changes_nothing(old, outlier):
        return
    key = fact.envelope.idempotency_key
    if key is not None and old is None and _is_duplicate(step, fact, key, source):
        return
    backfilled = isinstance(fact, PduFetched) and fact.purpose == BACKFILL
    arrival = Arrival(event, source, old is None, outlier, backfilled, key)
    _place(step, arrival, ours=isinstance(fact, PduCreated))


def event_in(fact: PduFact) -> Event:
    """The event of a fact, as far as decisions read it: its skeleton, and which event it redacts."""
    pdu = loads(fact.skeleton)
    if pdu.get("type") == "m.room.redaction" and isinstance(fact.body, bytes):
        pdu = merge(pdu, loads(fact.body))
    return event_of(pdu, ROOM_VERSIONS[fact.room_version], fact.event_id)


def _ask_at_once(step: Step, fact: PduFact, event: Event) -> None:
    """One round of needs for all that nearly every PDU needs, instead of one each."""
    view, room_id = step.view, step.view.room_id
    event_ids = (fact.event_id, *event.prev_events, *event.auth_events)
    events = frozenset((room_id, event_id) for event_id in event_ids if event_id not in view.events)
    key = fact.envelope.idempotency_key
    keys = frozenset([(room_id, key)]) if key is not None and key not in view.keys else frozenset()
    current = step.header.current_state_id
    states = frozenset([(room_id, current)]) if current and current not in view.states else frozenset()
    if events or keys or states:
        raise Lacking(Needs(events=events, keys=keys, states=states))


def _changes_nothing(old: Entry, outlier: bool) -> bool:
    """A repeat decides nothing; an outlier that arrives as a timeline event is judged in full, a dropped one again."""
    if old.verdict == DROPPED:
        return False
    return not (old.outlier and not outlier)


def _is_duplicate(step: Step, fact: PduFact, key: str, source: int) -> bool:
    first = step.view.first_of_key(key)
    if first is None:
        keys = step.view.keys.set(key, FirstOfKey(source, fact.event_id))
        step.view = step.view.with_keys(keys)
        return False
    step.decide(Duplicate, source, event_id=fact.event_id, first_source=first.source, first_event_id=first.event_id)
    return True


def _place(step: Step, arrival: Arrival, ours: bool) -> None:
    prev, auth = missing_ancestors(step, arrival.event, arrival.outlier)
    if not prev and not auth:
        judge(step, arrival)
        close_wanted(step, arrival.event.event_id, "came", arrival.source)
    elif ours:
        drop_for_lack(step, arrival)
    else:
        park(step, arrival, prev, auth)
