"""What the tables of one room would hold, in dictionaries: `MemoryRows` folds decisions, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from annals.matrix.events import Event
from annals.projectors.rooms.chains import may_be_cited
from annals.projectors.rooms.fold import event_in
from annals.rooms.auth_chains import ChainCover, Citing, Placed
from annals.rooms.needs import OpenHandshake
from annals.schemas.facts import decisions as d
from annals.schemas.facts.rooms import PduFact, RoomFact, StateSetChunk

#: Whose users are local.
OUR_SERVER = "test"


@dataclass
class MemoryRows:
    """What the tables of one room would hold, made of facts and decisions alone."""

    room_id: str
    facts: dict[int, RoomFact] = field(default_factory=dict)
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    room: dict[str, Any] = field(default_factory=dict)
    states: dict[int, d.StateMade] = field(default_factory=dict)
    extremities: dict[str, int] = field(default_factory=dict)
    current: dict[tuple[str, str], str] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    pending_redactions: dict[str, list[str]] = field(default_factory=dict)
    halted_at: int | None = None
    waiting: list[int] = field(default_factory=list)
    duplicates: dict[str, str] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    handshakes: dict[str, OpenHandshake] = field(default_factory=dict)
    outcomes: dict[str, d.HandshakeEnded] = field(default_factory=dict)
    queued: list[int] = field(default_factory=list)
    sets: dict[str, list[str]] = field(default_factory=dict)
    local: dict[str, str] = field(default_factory=dict)
    """The memberships of users of ours."""
    previews: dict[str, str] = field(default_factory=dict)
    places: dict[str, Placed] = field(default_factory=dict)
    cover: ChainCover = field(default_factory=lambda: ChainCover(()))
    citing: dict[str, Citing] = field(default_factory=dict)

    def apply(self, offset: int, fact: RoomFact, decisions: Iterable[d.Decision]) -> None:
        """Fold one step."""
        self.facts[offset] = fact
        for decision in decisions:
            self._fold(decision)
            self._place(decision)
            if self.halted_at is None and decision.source in self.waiting:
                self.waiting.remove(decision.source)
            if decision.source in self.queued and not isinstance(decision, d.Queued | d.Waiting | d.Halted):
                self.queued.remove(decision.source)
        assert self.halted_at is not None or not self.waiting, "each fact that waited has a decision of its own"

    def _fold(self, decision: d.Decision) -> None:
        match decision:
            case d.Verdict():
                self._fold_verdict(decision)
            case d.Duplicate():
                self.duplicates[decision.event_id] = decision.first_event_id
            case d.Retraction():
                if decision.event_id in self.events:
                    self.events[decision.event_id]["key"] = None
            case d.WantedOpened():
                self.wanted.add(decision.event_id)
            case d.WantedClosed():
                self.wanted.discard(decision.event_id)
            case d.Halted():
                self._halted(decision)
            case d.Waiting():
                self.waiting.append(decision.source)
            case d.Resumed():
                self.halted_at = None
            case d.Rebuilt():
                pass
            case d.MembershipForgotten():
                self.forgotten.add(decision.user_id)
            case d.Skipped():
                pass
            case d.Queued():
                self.queued.append(decision.source)
            case d.HandshakeOpened() | d.HandshakeEnded():
                self._fold_handshake(decision)
            case d.SetGathered():
                chunk = self.facts[decision.source]
                assert isinstance(chunk, StateSetChunk)
                if chunk.role == "state":
                    self.sets.setdefault(chunk.set_id, []).extend(chunk.event_ids)
            case d.RoomEntered():
                assert not self.room
                self.room |= {"version": decision.room_version, "create": decision.create_event_id}
            case d.MembershipTaken():
                self.local[decision.user_id] = decision.membership
                self.previews[decision.user_id] = decision.event_id
            case _:
                raise AssertionError(decision)

    def _fold_handshake(self, decision: d.HandshakeOpened | d.HandshakeEnded) -> None:
        handshake_id = decision.handshake_id
        if isinstance(decision, d.HandshakeEnded):
            del self.handshakes[handshake_id]
            self.outcomes[handshake_id] = decision
        else:
            attached, holds = decision.attached_to, decision.holds_queue
            opened = OpenHandshake(handshake_id, decision.kind, decision.user_id, attached, holds)
            self.handshakes[handshake_id] = opened

    def _halted(self, decision: d.Halted) -> None:
        if self.halted_at is None:
            self.halted_at = decision.source
            self.waiting.append(decision.source)

    def _fold_verdict(self, v: d.Verdict) -> None:
        if v.first:
            fact = self.facts[v.source]
            assert isinstance(fact, PduFact)
            assert v.event_id not in self.events
            self.events[v.event_id] = {"fact": fact, "key": fact.envelope.idempotency_key, "redacted_by": None}
        self.events[v.event_id]["verdict"] = v
        for made in v.states_made:
            assert made.state_id not in self.states
            self.states[made.state_id] = made
        for event_id in v.extremities_removed:
            del self.extremities[event_id]
        self.extremities.update(dict.fromkeys(v.extremities_added, v.position))
        for change in v.current_delta:
            assert self.current.get((change.type, change.state_key)) == change.previous_event_id
            if change.event_id is None:
                del self.current[change.type, change.state_key]
            else:
                self.current[change.type, change.state_key] = change.event_id
            if change.type == "m.room.member" and change.state_key.endswith(f":{OUR_SERVER}"):
                self.previews.pop(change.state_key, None)
                self.local.pop(change.state_key, None)
                if change.membership is not None:
                    self.local[change.state_key] = change.membership
        self._fold_room(v)
        for applied in v.redactions:
            self.events[applied.event_id]["redacted_by"] = applied.redaction
        if v.redaction_waits_for:
            self.pending_redactions.setdefault(v.redaction_waits_for, []).append(v.event_id)
        for redaction in v.redactions_settled:
            self.pending_redactions[v.event_id].remove(redaction)

    def _fold_room(self, v: d.Verdict) -> None:
        fact = self.events[v.event_id]["fact"]
        if v.verdict == "accepted" and not v.outlier and b'"type":"m.room.create"' in fact.skeleton:
            self.room |= {"version": fact.room_version, "create": v.event_id}
        if v.current_state_id is not None:
            self.room["current"] = v.current_state_id
        if v.min_depth is not None:
            self.room["min_depth"] = v.min_depth

    def _place(self, decision: d.Decision) -> None:
        for of in may_be_cited([decision], self._event_at):
            self.citing[of.event.event_id] = of.event
            self.places |= {placed.event_id: placed for placed in self.cover.add(of.event)}
            # An outlier may cite what was taken out of band; it is judged again before anything rests on it.
            if not (isinstance(decision, d.Verdict) and decision.outlier):
                assert of.event.event_id in self.places, "a state event has a place as soon as it is decided"

    def _event_at(self, source: int) -> Event | None:
        fact = self.facts[source]
        return event_in(fact) if isinstance(fact, PduFact) else None
