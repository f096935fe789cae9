"""A PDU comes in: known, duplicate, parked, or judged."""

from __future__ import annotations

from typing import Any

from annals.matrix.canonical_json import loads
from annals.matrix.errors import InvalidEvent, MatrixError
from annals.matrix.events import Event, event_of, merge
from annals.matrix.format import check_fields
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.rooms.ancestors import missing_ancestors
from annals.rooms.asking import needs_of, needs_of_events
from annals.rooms.judging import Arrival, judge
from annals.rooms.needs import FirstOfKey, Needs
from annals.rooms.parking import OTHER_ROOM_VERSION, abandon, close_wanted, drop_arrival, park, unpark
from annals.rooms.state import Lacking
from annals.rooms.step import Step
from annals.rooms.view import DROPPED, Entry, RoomView
from annals.schemas.facts.decisions import Duplicate, Skipped
from annals.schemas.facts.rooms import PduCreated, PduFact, PduFetched, RoomFact

BACKFILL = "backfill"
#: Purposes of a fetch whose events stand outside the timeline.
_OUTLIER_PURPOSES = frozenset(("state", "auth", "anchor"))

UNKNOWN_ROOM_VERSION = "unknown_room_version"
OTHER_ROOM = "other_room"
MALFORMED = "malformed"
_NEVER_OURS = frozenset((OTHER_ROOM, MALFORMED))

#: Of events of ours.
ANCESTOR_NOT_HERE = "ancestor_not_here"


def admit(step: Step, fact: PduFact, source: int) -> None:
    """Take a PDU as far as it goes: to a verdict, or to the parking place."""
    event = event_or_reason(step.view.room_id, fact)
    if isinstance(event, str):
        step.decide(Skipped, source, reason=event, event_id=fact.event_id)
        if isinstance(fact, PduFetched) and event in _NEVER_OURS:
            # Who cites it waits for nothing: what has this id is no event of this room.
            abandon(step, (fact.event_id,), source)
        return
    outlier = isinstance(fact, PduFetched) and fact.purpose in _OUTLIER_PURPOSES
    view = step.view
    try:
        _take(step, fact, event, outlier, source)
    except Lacking as lacking:
        # One round for all that is certainly lacked; what can only be told then is asked for later.
        raise Lacking(needs_of(view, fact, event, outlier) or lacking.needs) from None


def _take(step: Step, fact: PduFact, event: Event, outlier: bool, source: int) -> None:
    rules = step.header.rules
    if rules is not None and rules is not event.rules:
        step.decide(Skipped, source, reason=OTHER_ROOM_VERSION, event_id=fact.event_id)
        return
    old = step.view.entry(fact.event_id)
    if old is not None and _changes_nothing(old, outlier, checked=isinstance(fact, PduFetched)):
        return
    key = fact.envelope.idempotency_key
    if key is not None and old is None and _is_duplicate(step, fact, key, source):
        return
    unpark(step, fact.event_id)
    backfilled = isinstance(fact, PduFetched) and fact.purpose == BACKFILL
    if old is None:
        arrival = Arrival(event, source, True, outlier, backfilled, key, ours=isinstance(fact, PduCreated))
    else:
        # An event is judged again as it came first: that is the one that is kept.
        arrival = Arrival(old.event, old.source, False, outlier, backfilled, old.idempotency_key)
    _place(step, arrival, ours=isinstance(fact, PduCreated))


def event_or_reason(room_id: str, fact: PduFact) -> Event | str:
    """The event of a fact, or why nothing can be done with it."""
    if fact.room_version not in ROOM_VERSIONS:
        return UNKNOWN_ROOM_VERSION
    try:
        event = event_in(fact)
    except MatrixError:
        return MALFORMED
    return event if event.room_id == room_id else OTHER_ROOM


def event_in(fact: PduFact) -> Event:
    """The event of a fact, as far as decisions read it: its skeleton, and which event it redacts.

    Raises MatrixError for what is no event: its format was checked before it was logged.
    """
    rules = ROOM_VERSIONS[fact.room_version]
    pdu: dict[str, Any] = loads(fact.skeleton)
    if type(pdu) is not dict:
        raise InvalidEvent("not an object")
    if pdu.get("type") == "m.room.redaction" and not rules.redacts_in_content:
        pdu = _with_body(pdu, fact)
    check_fields(pdu, rules)
    return event_of(pdu, rules, fact.event_id)


def _with_body(skeleton: dict[str, Any], fact: PduFact) -> dict[str, Any]:
    # "If the content hash does not match, the event is redacted": then the body is nobody's word.
    if not isinstance(fact.body, bytes) or not getattr(fact, "content_hash_ok", True):
        return skeleton
    body = loads(fact.body)
    return merge(skeleton, body) if type(body) is dict else skeleton


def first_needs(view: RoomView, fact: RoomFact) -> Needs:
    """What is needed of a room of which nothing is loaded: its header, and what goes with it in one round."""
    needs = Needs(rooms=frozenset([view.room_id]))
    event = event_or_reason(view.room_id, fact) if isinstance(fact, PduFact) else None
    if isinstance(fact, PduFact) and isinstance(event, Event):
        needs |= needs_of_events(view, fact, event)
    return needs


def _changes_nothing(old: Entry, outlier: bool, checked: bool) -> bool:
    """A repeat decides nothing; an outlier that arrives as a timeline event is judged in full, a dropped one again.

    What was taken out of band passes check 4 once its auth_events are here.
    """
    if old.verdict == DROPPED or (old.out_of_band and checked):
        return False
    return not (old.outlier and not outlier)


def _is_duplicate(step: Step, fact: PduFact, key: str, source: int) -> bool:
    first = step.view.first_of_key(key)
    if first is None:
        step.view = step.view.with_key(key, FirstOfKey(source, fact.event_id))
        return False
    step.decide(Duplicate, source, event_id=fact.event_id, first_source=first.source, first_event_id=first.event_id)
    return True


def _place(step: Step, arrival: Arrival, ours: bool) -> None:
    event = arrival.event
    prev, auth = missing_ancestors(step.view, event, arrival.outlier)
    if ours and (prev or auth):
        # An event of ours never parks: its builder makes it anew.
        drop_arrival(step, arrival, ANCESTOR_NOT_HERE)
    elif prev or auth:
        park(step, arrival, prev, auth)
    else:
        judge(step, arrival)
        close_wanted(step, event.event_id, arrival.outlier, arrival.source)
