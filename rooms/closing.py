"""A set is whole: the event that it was asked for is judged by it, and takes its place in the room.

Of a join it is our user's member event, and the room is ours to judge from then on. Of a gap it is an event of the past
whose own prev_events we lack: what is parked behind it wakes, and is resolved with what we have.
"""

from __future__ import annotations

from dataclasses import dataclass

from annals.matrix.events import Event
from annals.rooms.ancestors import missing_ancestors
from annals.rooms.handshakes import COMPLETED, FAILED, JOIN, ApplyFact, end, open_handshake
from annals.rooms.judging import Arrival, Refusal, judge, refused_in
from annals.rooms.parking import close_wanted, give_up, unpark_for_good
from annals.rooms.sets import WrongSet, ask_for_set, entries_of_set, make_state
from annals.rooms.step import Step
from annals.rooms.view import ACCEPTED, Entry
from annals.schemas.facts.decisions import RoomEntered, Skipped
from annals.schemas.facts.rooms import StateSetClosed

GAP = "gap"

NOT_HERE = "event_not_here"
ALREADY_KNOWN = "already_known"
AUTH_NOT_HERE = "auth_events_not_here"
NO_SUCH_PURPOSE = "no_such_purpose"
NOT_A_JOIN = "not_a_join"
OTHER_USER = "other_user"
UNKNOWN_ROOM = "unknown_room"
OTHER_ROOM_VERSION = "other_room_version"

#: What the client is answered where another server's answer to a join was wrong.
_STATUS, _ERRCODE = 502, "M_UNKNOWN"


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    rule: str | None = None

    def __str__(self) -> str:
        return f"{self.reason} (rule {self.rule})" if self.rule else self.reason


def close(step: Step, fact: StateSetClosed, source: int, apply_fact: ApplyFact) -> None:
    """Place the event of a set that is whole."""
    ask_for_set(step, fact)
    entry = step.view.entry(fact.event_id)
    if fact.purpose == JOIN:
        _join(step, fact, entry, source, apply_fact)
    elif fact.purpose == GAP:
        _fill_gap(step, fact, entry, source)
    else:
        step.decide(Skipped, source, reason=NO_SUCH_PURPOSE, event_id=fact.event_id)


def _join(step: Step, fact: StateSetClosed, entry: Entry | None, source: int, apply_fact: ApplyFact) -> None:
    failure = _enter(step, fact, entry, source)
    if failure is None:
        end(step, fact.handshake_id, COMPLETED, source, apply_fact, event_id=fact.event_id)
        return
    # The room has nothing of it: what was logged for it stays an outlier.
    if entry is not None:
        give_up(step, entry.event.event_id, source)
    step.decide(Skipped, source, reason=str(failure), event_id=fact.event_id)
    said: dict[str, str | int | None] = {"status": _STATUS, "errcode": _ERRCODE, "reason": str(failure)}
    end(step, fact.handshake_id, FAILED, source, apply_fact, **said)


def _enter(step: Step, fact: StateSetClosed, entry: Entry | None, source: int) -> _Failure | None:
    """Put our user's join into the room, which may be new to us."""
    if entry is None:
        return _Failure(NOT_HERE)
    if entry.known:
        return None if entry.verdict == ACCEPTED else _Failure(entry.verdict)
    handshake = open_handshake(step, fact.handshake_id)
    if not _is_join(entry.event):
        return _Failure(NOT_A_JOIN)
    if handshake is not None and handshake.user_id != entry.event.state_key:
        return _Failure(OTHER_USER)
    entries = _placeable(step, fact, entry)
    if isinstance(entries, _Failure):
        return entries
    refusal = refused_in(step, entry.event, entries)
    if refusal is not None:
        return _of_refusal(refusal)
    enters = step.header.create_event_id is None
    if enters:
        _make_known(step, entries["m.room.create", ""], source)
    _judge_in(step, entry, entries, backfilled=False, enters=enters)
    return None


def _is_join(event: Event) -> bool:
    return (
        event.type == "m.room.member" and event.state_key == event.sender and event.content.get("membership") == "join"
    )


def _of_refusal(refusal: Refusal) -> _Failure:
    return _Failure(refusal.reason, refusal.rule)


def _make_known(step: Step, create_event_id: str, source: int) -> None:
    create = step.view.entry(create_event_id)
    assert create is not None, "a state is made of events that are here"
    event = create.event
    step.set_header(rules=event.rules, create_event_id=create_event_id)
    step.decide(
        RoomEntered,
        source,
        room_version=event.rules.version,
        create_event_id=create_event_id,
        creator=event.sender,
    )


def _fill_gap(step: Step, fact: StateSetClosed, entry: Entry | None, source: int) -> None:
    if entry is not None and entry.known:
        step.decide(Skipped, source, reason=ALREADY_KNOWN, event_id=fact.event_id)
        return
    entries = _gap_entries(step, fact, entry)
    if entry is None or isinstance(entries, _Failure):
        step.decide(Skipped, source, reason=str(entries), event_id=fact.event_id)
        give_up(step, fact.event_id, source)
    else:
        _judge_in(step, entry, entries, backfilled=True)


def _gap_entries(step: Step, fact: StateSetClosed, entry: Entry | None) -> dict[tuple[str, str], str] | _Failure:
    if entry is None:
        return _Failure(NOT_HERE)
    if step.header.create_event_id is None:
        return _Failure(UNKNOWN_ROOM)
    return _placeable(step, fact, entry)


def _placeable(step: Step, fact: StateSetClosed, entry: Entry) -> dict[tuple[str, str], str] | _Failure:
    """The state before an event that is to be placed, or why it cannot be."""
    rules = entry.event.rules
    if step.header.rules not in (None, rules):
        return _Failure(OTHER_ROOM_VERSION)
    if missing_ancestors(step.view, entry.event, outlier=True) != ((), ()):
        return _Failure(AUTH_NOT_HERE)
    entries = entries_of_set(step, fact, rules.version)
    return _Failure(entries.reason) if isinstance(entries, WrongSet) else entries


def _judge_in(
    step: Step, entry: Entry, entries: dict[tuple[str, str], str], *, backfilled: bool, enters: bool = False
) -> None:
    event = entry.event
    unpark_for_good(step, event.event_id, entry.source)
    before = make_state(step, entries)
    key = entry.idempotency_key
    judge(step, Arrival(event, entry.source, False, False, backfilled, key, before, enters=enters))
    close_wanted(step, event.event_id, False, entry.source)
