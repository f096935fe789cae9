"""The fold of the rooms group: a step's fact and decisions become rows, without reading anything.

A message writes one row of `events` and its extremities; a state event adds what changes with the state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from annals.database.rows import Rows, Values
from annals.matrix.canonical_json import loads
from annals.matrix.events import Event, event_of, merge
from annals.matrix.identifiers import domain_of
from annals.matrix.policy_servers import with_signature
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.projectors.rooms import tables
from annals.projectors.rooms.event_columns import (
    CREATE,
    MEMBER,
    STATE_KEY,
    EventColumns,
    columns_of,
    columns_of_message,
    membership_of,
)
from annals.projectors.rooms.event_json import split_event
from annals.schemas.facts.decisions import (
    CurrentChange,
    Decision,
    Duplicate,
    Halted,
    HandshakeEnded,
    HandshakeOpened,
    MembershipForgotten,
    MembershipTaken,
    Queued,
    Rebuilt,
    Resumed,
    Retraction,
    RoomEntered,
    SetGathered,
    Skipped,
    Verdict,
    Waiting,
    WantedClosed,
    WantedOpened,
)
from annals.schemas.facts.envelope import Sealable
from annals.schemas.facts.rooms import (
    HandshakeFailed,
    HandshakeStarted,
    MembershipReceived,
    PduFact,
    PolicyAnswered,
    RoomFact,
    RoomResumed,
    StateSetChunk,
    StateSetClosed,
)

_BIGINT_MIN, _BIGINT_MAX = -(1 << 63), (1 << 63) - 1


class FactNotGiven(Exception):
    """A decision is about a fact that the loop did not hand to the fold."""


class UnknownDecision(Exception):
    """A kind of decision that this version has no rule for."""


@dataclass(slots=True)
class StepFacts:
    """What a step's fold is given: its own fact, and the earlier ones that its decisions are about, by offset."""

    offset: int
    fact: RoomFact
    others: Mapping[int, RoomFact]
    is_message: bool = False
    """The fold has seen that the step's own fact is a message's."""
    _events: dict[int, Event] | None = None

    def event_at(self, source: int) -> Event | None:
        """The event of the fact at `source`; None where it is the fact of none. Raises FactNotGiven."""
        if self._events is None:
            self._events = {}
        event = self._events.get(source)
        if event is None and isinstance(fact := self.at(source), PduFact):
            event = self._events[source] = event_in(fact)
        return event

    def at(self, source: int) -> RoomFact:
        """The fact at `source`; raises FactNotGiven."""
        if source == self.offset:
            return self.fact
        try:
            return self.others[source]
        except KeyError:
            raise FactNotGiven(f"the fact at {source} was not given to the step at {self.offset}") from None

    @property
    def may_hold_state(self) -> bool:
        """Whether a state event may be among the facts: nearly every step is about one message, which says so."""
        return bool(self.others) or (not self.is_message and STATE_KEY in getattr(self.fact, "skeleton", b""))


#: Decisions of which the fold reads the fact, too.
_ABOUT_FACTS = (Verdict, HandshakeOpened, SetGathered, MembershipTaken)
#: Facts whose steps decide what has waited.
_RELEASING = (RoomResumed, HandshakeFailed, StateSetClosed)
_NO_SOURCES: frozenset[int] = frozenset()


def sources_needed(offset: int, decisions: Sequence[Decision]) -> Collection[int]:
    """Offsets of the earlier facts that folding these decisions of the step at `offset` reads."""
    if len(decisions) == 1 and decisions[0].source == offset:
        return _NO_SOURCES
    return {
        decision.source for decision in decisions if decision.source != offset and isinstance(decision, _ABOUT_FACTS)
    }


def event_in(fact: PduFact) -> Event:
    """The event as this server keeps it: of one whose content hash failed, or whose body is sealed, the skeleton."""
    rules = ROOM_VERSIONS[fact.room_version]
    # What passed the strict rules before it was logged has no number that the quick reader would change.
    read = orjson.loads if rules.strict_canonical_json else loads
    pdu: dict[str, Any] = read(fact.skeleton)
    if isinstance(fact.body, bytes) and getattr(fact, "content_hash_ok", True):
        pdu = merge(pdu, read(fact.body))
    return event_of(pdu, rules, fact.event_id)


def users_moved(decisions: Sequence[Decision]) -> set[str]:
    """Users whose own membership a step changes: who must hear of it even where nobody of theirs was in the room."""
    moved = {
        change.state_key
        for decision in decisions
        if isinstance(decision, Verdict)
        for change in decision.current_delta
        if change.type == MEMBER
    }
    moved.update(
        decision.user_id for decision in decisions if isinstance(decision, MembershipForgotten | MembershipTaken)
    )
    moved.update(user_id for decision in decisions if isinstance(decision, Rebuilt) for user_id in decision.users)
    return moved


def fold_step(
    facts: StepFacts,
    decisions: Sequence[Decision],
    partition: int,
    is_local: Callable[[str], bool],
    rows: Rows | None = None,
) -> Rows:
    """The rows of one step, added to `rows` where some are given. `is_local` tells our own users by their id."""
    fold = _Fold(facts, partition, is_local, Rows() if rows is None else rows)
    releases = isinstance(facts.fact, _RELEASING)
    for decision in decisions:
        fold.apply(decision)
        if releases and decision.source != facts.offset:
            fold.waits_no_more(decision)
    return fold.rows


def local_to(server_name: str) -> Callable[[str], bool]:
    """The test for users of `server_name`; what is no user id is nobody's."""

    ending = ":" + server_name

    def is_local(user_id: str) -> bool:
        # Of a large room nearly all are of elsewhere, which the end of their names says already.
        return user_id.endswith(ending) and user_id.startswith("@") and domain_of(user_id) == server_name

    return is_local


class _Fold:
    __slots__ = ("_facts", "_is_local", "_partition", "rows")

    def __init__(self, facts: StepFacts, partition: int, is_local: Callable[[str], bool], rows: Rows) -> None:
        self.rows = rows
        self._facts = facts
        self._partition = partition
        self._is_local = is_local

    def apply(self, decision: Decision) -> None:
        """Add the rows of one decision."""
        try:
            apply = _APPLY[type(decision)]
        except KeyError:
            raise UnknownDecision(type(decision).__name__) from None
        apply(self, decision)

    def _of(self, decision: Decision) -> dict[str, Any]:
        return {"partition": self._partition, "source": decision.source, "position": decision.position}

    def verdict(self, decision: Verdict) -> None:
        fact = self._facts.at(decision.source)
        if not isinstance(fact, PduFact):
            raise UnknownDecision(f"a verdict about a {type(fact).__name__}")
        event = None
        columns = columns_of_message(fact) if decision.first else None
        if columns is not None:
            self._facts.is_message = fact is self._facts.fact
        else:
            event = self._facts.event_at(decision.source)
            columns = columns_of(event) if decision.first and event is not None else None
        if columns is not None:
            self.rows.insert_values(tables.EVENTS, self._event_row(decision, fact, columns))
        else:
            self._judge_again(decision)
        if event is not None and event.type == MEMBER and event.state_key is not None:
            self._room_membership(decision, event)
        if decision.states_made:
            self._states(decision)
        self._extremities(decision)
        self._room(decision, fact, event)
        for ordinal, change in enumerate(decision.current_delta):
            self._current(decision, ordinal, change)
        self._redactions(decision)

    def _event_row(self, decision: Verdict, fact: PduFact, columns: EventColumns) -> Values:
        return (
            decision.room_id,
            decision.event_id,
            self._partition,
            decision.source,
            decision.position,
            fact.room_version,
            columns.type,
            columns.state_key,
            columns.sender,
            _clamped(columns.depth),
            _clamped(columns.origin_server_ts),
            decision.verdict,
            decision.rule,
            decision.reason,
            decision.outlier,
            decision.backfilled,
            decision.provisional,
            decision.state_before,
            decision.state_after,
            columns.prev_events,
            columns.auth_events,
            decision.missing or None,
            columns.client_json,
            columns.federation_json,
            columns.membership,
            columns.redacts,
            None,  # redacted_by
            decision.replaces,
            columns.relates_to,
            fact.envelope.idempotency_key,
        )

    def _judge_again(self, decision: Verdict) -> None:
        key = {"room_id": decision.room_id, "event_id": decision.event_id}
        signed = self._with_policy_signature(decision)
        self.rows.update(tables.EVENTS, key, {"position": decision.position, **_judgement(decision), **signed})

    def _with_policy_signature(self, decision: Verdict) -> dict[str, Any]:
        """The signature that a policy server gave belongs to the event from then on, whoever asks for that."""
        answer = self._facts.fact
        if not isinstance(answer, PolicyAnswered) or answer.event_id != decision.event_id or answer.signature is None:
            return {}
        event = self._facts.event_at(decision.source)
        if event is None or decision.verdict != "accepted":
            return {}
        pdu = with_signature(event.pdu, answer.server, answer.signature)
        return {"federation_json": split_event(event_of(pdu, event.rules, event.event_id))[1]}

    def _room_membership(self, decision: Verdict, event: Event) -> None:
        membership = membership_of(event)
        if decision.verdict != "accepted" or membership is None:
            if not decision.first:
                self.rows.delete_key(tables.ROOM_MEMBERSHIPS, decision.room_id, decision.event_id)
            return
        member = (decision.event_id, event.state_key, event.sender, membership)
        row = (decision.room_id, *member, self._partition, decision.source, decision.position)
        # What is judged for the first time has no row, as it has none in `events`.
        (self.rows.insert_values if decision.first else self.rows.upsert_values)(tables.ROOM_MEMBERSHIPS, row)

    def _states(self, decision: Verdict) -> None:
        for made in decision.states_made:
            state = (decision.room_id, made.state_id)
            sums = (made.base_id, made.depth, made.element_sum)
            of = (self._partition, decision.source, decision.position)
            self.rows.insert_values(tables.STATES, (*state, *sums, *of))
            for entry in made.delta:
                named = (entry.type, entry.state_key, entry.event_id)
                self.rows.insert_values(tables.STATE_DELTAS, (*state, *named))

    def _extremities(self, decision: Verdict) -> None:
        room_id = decision.room_id
        for event_id in decision.extremities_removed:
            self.rows.delete_key(tables.FORWARD_EXTREMITIES, room_id, event_id)
        for event_id in decision.extremities_added:
            # What was never here before was no extremity either; where the same batch takes it away again, nothing is
            # written.
            if decision.first and event_id == decision.event_id:
                row = (room_id, event_id, self._partition, decision.source, decision.position)
                self.rows.insert_values(tables.FORWARD_EXTREMITIES, row)
            else:
                key = {"room_id": room_id, "event_id": event_id}
                self.rows.upsert(tables.FORWARD_EXTREMITIES, {**key, **self._of(decision)})

    def _room(self, decision: Verdict, fact: PduFact, event: Event | None) -> None:
        is_create = event is not None and event.type == CREATE and event.state_key == ""
        if decision.current_state_id is None and decision.min_depth is None and not is_create:
            return
        changes: dict[str, Any] = {}
        if decision.current_state_id is not None:
            changes["current_state_id"] = decision.current_state_id
            changes["current_fingerprint"] = decision.current_fingerprint
        if decision.min_depth is not None:
            changes["min_depth"] = _clamped(decision.min_depth)
        if event is not None and is_create and decision.verdict == "accepted" and not decision.outlier:
            made = {"room_version": fact.room_version, "create_event_id": event.event_id, "creator": event.sender}
            self.rows.upsert(tables.ROOMS, {"room_id": decision.room_id, **self._of(decision), **made, **changes})
        elif changes:
            self.rows.update(tables.ROOMS, {"room_id": decision.room_id}, {"position": decision.position, **changes})

    def _current(self, decision: Verdict, ordinal: int, change: CurrentChange) -> None:
        room_id, event_id, membership = decision.room_id, change.event_id, change.membership
        key = (change.type, change.state_key)
        if event_id is None:
            self.rows.delete_key(tables.CURRENT_STATE, room_id, *key)
        else:
            row = (room_id, *key, event_id, membership, self._partition, decision.source, decision.position)
            # A key that the state did not have has no row: of a room that we come into there are thousands.
            is_new = change.previous_event_id is None
            (self.rows.insert_values if is_new else self.rows.upsert_values)(tables.CURRENT_STATE, row)
        changed = (*key, event_id, change.previous_event_id, membership)
        delta = (room_id, decision.position, ordinal, *changed, self._partition, decision.source)
        self.rows.insert_values(tables.CURRENT_STATE_DELTAS, delta)
        if change.type == MEMBER and self._is_local(change.state_key):
            self._local_membership(decision, change)

    def _local_membership(self, decision: Verdict, change: CurrentChange) -> None:
        key = {"room_id": decision.room_id, "user_id": change.state_key}
        self.rows.delete(tables.ROOM_PREVIEWS, key)
        if change.event_id is None or change.membership is None:
            self.rows.delete(tables.LOCAL_CURRENT_MEMBERSHIP, key)
            return
        entry = {"event_id": change.event_id, "membership": change.membership, "forgotten": False}
        self.rows.upsert(tables.LOCAL_CURRENT_MEMBERSHIP, {**key, **entry, **self._of(decision)})

    def _redactions(self, decision: Verdict) -> None:
        room_id = decision.room_id
        for applied in decision.redactions:
            key = {"room_id": room_id, "event_id": applied.event_id}
            self.rows.update(tables.EVENTS, key, {"redacted_by": applied.redaction})
        for redaction in decision.redactions_settled:
            waited = {"room_id": room_id, "redacts": decision.event_id, "event_id": redaction}
            self.rows.delete(tables.PENDING_REDACTIONS, waited)
        if decision.redaction_waits_for is not None:
            waiting = {"redacts": decision.redaction_waits_for, "event_id": decision.event_id}
            self.rows.upsert(tables.PENDING_REDACTIONS, {"room_id": room_id, **waiting, **self._of(decision)})

    def duplicate(self, decision: Duplicate) -> None:
        first = {"first_source": decision.first_source, "first_event_id": decision.first_event_id}
        row = {"room_id": decision.room_id, "event_id": decision.event_id, **first, **self._of(decision)}
        self.rows.upsert(tables.DUPLICATES, row)

    def retraction(self, decision: Retraction) -> None:
        # The refusal frees the key: whoever comes with it again is the first.
        key = {"room_id": decision.room_id, "event_id": decision.event_id}
        self.rows.update(tables.EVENTS, key, {"idempotency_key": None})

    def wanted_opened(self, decision: WantedOpened) -> None:
        wanted = {"event_id": decision.event_id, "kind": decision.kind, "wanted_by": decision.wanted_by}
        self.rows.upsert(tables.WANTED, {"room_id": decision.room_id, **wanted, **self._of(decision)})

    def wanted_closed(self, decision: WantedClosed) -> None:
        self.rows.delete(tables.WANTED, {"room_id": decision.room_id, "event_id": decision.event_id})

    def halted(self, decision: Halted) -> None:
        if isinstance(self._facts.fact, RoomResumed):
            # The resumption failed: the room stands where it stood.
            again = {"error": decision.error, "position": decision.position}
            self.rows.update(tables.HALTED_ROOMS, {"room_id": decision.room_id}, again)
            return
        row = {"room_id": decision.room_id, "error": decision.error, **self._of(decision)}
        self.rows.upsert(tables.HALTED_ROOMS, row)
        self.wait(decision)

    def wait(self, decision: Decision) -> None:
        self.rows.upsert(tables.WAITING_FACTS, {"room_id": decision.room_id, **self._of(decision)})

    def skipped(self, decision: Skipped) -> None:
        """Nothing comes of the fact."""

    def waits_no_more(self, decision: Decision) -> None:
        """The fact waited in a halted room, or for the end of a join, and is decided now."""
        key = {"room_id": decision.room_id, "source": decision.source}
        if isinstance(self._facts.fact, RoomResumed):
            self.rows.delete(tables.WAITING_FACTS, key)
        if not isinstance(decision, Queued):
            self.rows.delete(tables.QUEUED_FACTS, key)

    def resumed(self, decision: Resumed) -> None:
        self.rows.delete(tables.HALTED_ROOMS, {"room_id": decision.room_id})
        self._begins_anew(decision)

    def rebuilt(self, decision: Rebuilt) -> None:
        self._begins_anew(decision)
        for user_id in decision.users:
            row = {"room_id": decision.room_id, "user_id": user_id, **self._of(decision)}
            self.rows.upsert(tables.MEMBERSHIPS_REBUILT, row)

    def _begins_anew(self, decision: Decision) -> None:
        """Clients with a token of before are told the room anew."""
        resumed = {"resumed_position": decision.position}
        self.rows.update(tables.ROOMS, {"room_id": decision.room_id}, resumed)

    def handshake_opened(self, decision: HandshakeOpened) -> None:
        fact = self._facts.at(decision.source)
        if not isinstance(fact, HandshakeStarted):
            raise UnknownDecision(f"a handshake is opened by a {type(fact).__name__}")
        row = {
            "room_id": decision.room_id,
            "handshake_id": decision.handshake_id,
            "kind": decision.kind,
            "user_id": decision.user_id,
            "servers": fact.servers,
            "content": _plain_text(fact.content),
            "attached_to": decision.attached_to,
            "holds_queue": decision.holds_queue,
            **self._of(decision),
        }
        # Asked once more by the same name: it begins anew.
        self.rows.upsert(tables.HANDSHAKES, row)

    def handshake_ended(self, decision: HandshakeEnded) -> None:
        key = {"room_id": decision.room_id, "handshake_id": decision.handshake_id}
        ended = {
            "outcome": decision.outcome,
            "http_status": decision.status,
            "errcode": decision.errcode,
            "reason": decision.reason,
            "event_id": decision.event_id,
            "position": decision.position,
        }
        self.rows.update(tables.HANDSHAKES, key, ended)

    def queued(self, decision: Queued) -> None:
        self.rows.upsert(tables.QUEUED_FACTS, {"room_id": decision.room_id, **self._of(decision)})

    def set_gathered(self, decision: SetGathered) -> None:
        fact = self._facts.at(decision.source)
        if not isinstance(fact, StateSetChunk):
            raise UnknownDecision(f"a set is gathered of a {type(fact).__name__}")
        for event_id in fact.event_ids:
            row = {"room_id": decision.room_id, "set_id": decision.set_id, "role": decision.role, "event_id": event_id}
            self.rows.upsert(tables.STATE_SETS, {**row, **self._of(decision)})

    def room_entered(self, decision: RoomEntered) -> None:
        made = {
            "room_version": decision.room_version,
            "create_event_id": decision.create_event_id,
            "creator": decision.creator,
        }
        self.rows.upsert(tables.ROOMS, {"room_id": decision.room_id, **made, **self._of(decision)})

    def membership_taken(self, decision: MembershipTaken) -> None:
        fact = self._facts.at(decision.source)
        if not isinstance(fact, MembershipReceived):
            raise UnknownDecision(f"a membership is taken of a {type(fact).__name__}")
        if not self._is_local(decision.user_id):
            return
        key = {"room_id": decision.room_id, "user_id": decision.user_id}
        entry = {**key, "event_id": decision.event_id, **self._of(decision)}
        member = {"membership": decision.membership, "forgotten": False}
        self.rows.upsert(tables.LOCAL_CURRENT_MEMBERSHIP, {**entry, **member})
        preview = {"room_state": _plain_text(fact.room_state) or "[]"}
        self.rows.upsert(tables.ROOM_PREVIEWS, {**entry, **preview})

    def membership_forgotten(self, decision: MembershipForgotten) -> None:
        key = {"room_id": decision.room_id, "user_id": decision.user_id}
        forgotten = {"forgotten": True, "position": decision.position}
        self.rows.update(tables.LOCAL_CURRENT_MEMBERSHIP, key, forgotten)


def _judgement(decision: Verdict) -> dict[str, Any]:
    return {
        "verdict": decision.verdict,
        "rule": decision.rule,
        "reason": decision.reason,
        "outlier": decision.outlier,
        "backfilled": decision.backfilled,
        "provisional": decision.provisional,
        "state_before": decision.state_before,
        "state_after": decision.state_after,
        "missing": decision.missing or None,
        "replaces": decision.replaces,
    }


def _plain_text(personal: Sealable) -> str | None:
    return personal.decode(errors="replace") if isinstance(personal, bytes) else None


def _clamped(number: int) -> int:
    return number if _BIGINT_MIN <= number <= _BIGINT_MAX else max(_BIGINT_MIN, min(_BIGINT_MAX, number))


_APPLY: dict[type[Decision], Callable[[_Fold, Any], None]] = {
    Verdict: _Fold.verdict,
    Duplicate: _Fold.duplicate,
    Retraction: _Fold.retraction,
    WantedOpened: _Fold.wanted_opened,
    WantedClosed: _Fold.wanted_closed,
    Halted: _Fold.halted,
    Waiting: _Fold.wait,
    Skipped: _Fold.skipped,
    Resumed: _Fold.resumed,
    Rebuilt: _Fold.rebuilt,
    MembershipForgotten: _Fold.membership_forgotten,
    HandshakeOpened: _Fold.handshake_opened,
    HandshakeEnded: _Fold.handshake_ended,
    Queued: _Fold.queued,
    SetGathered: _Fold.set_gathered,
    RoomEntered: _Fold.room_entered,
    MembershipTaken: _Fold.membership_taken,
}
