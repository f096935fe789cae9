"""Building on a room's head: which events a new one follows, what permits it, and whether the machine would accept it.

Pure: the view says what the room is, time and key are arguments. Several events are chained by building each on the
view that the one before left behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from annals.matrix.auth_events import auth_types_for
from annals.matrix.building import build_event
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.events import Event, body, skeleton
from annals.matrix.hashing import reference_hash
from annals.matrix.room_versions import EventIdFormat, RoomRules
from annals.matrix.signing import SigningKey
from annals.rooms.ancestors import entries_of
from annals.rooms.machine import Decided, decide
from annals.rooms.needs import Needs
from annals.rooms.resolving import joined_state
from annals.rooms.state import Lacking, RoomState
from annals.rooms.step import Step
from annals.rooms.view import Entry, RoomView
from annals.schemas.facts.decisions import Verdict
from annals.schemas.facts.envelope import Envelope
from annals.schemas.facts.rooms import PduCreated

#: Server-server API: "A list of event IDs ... of the most recent events in the room": at most 20; peers write 10.
PREV_EVENTS_MAX = 10
_DEPTH_MAX = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Intent:
    """An event that a local user wants: all but what the room and the server add."""

    sender: str
    type: str
    content: dict[str, Any] = field(hash=False)
    state_key: str | None = None
    redacts: str | None = None
    idempotency_key: str | None = None
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs: the server's name and its key."""

    server_name: str
    key: SigningKey


def build_on(view: RoomView, intent: Intent, rules: RoomRules, signer: Signer, now_ms: int) -> Event:
    """The event, signed, on top of the room's head. Raises Lacking, and InvalidEvent where it cannot be sent."""
    header = view.known_header()
    prev = sorted(entries_of(view, header.extremities), key=lambda e: (-e.event.depth, e.position))[:PREV_EVENTS_MAX]
    depth = min(max((entry.event.depth for entry in prev), default=0) + 1, _DEPTH_MAX)
    # A room version whose room id is the create's hash gives the create none.
    no_room_id = rules.room_id_is_create_hash and intent.type == "m.room.create" and not prev
    permitting = _permitting(_state_before(view, prev, rules), intent, rules)
    return build_event(
        rules,
        room_id=None if no_room_id else view.room_id,
        sender=intent.sender,
        type=intent.type,
        content=intent.content,
        state_key=intent.state_key,
        redacts=intent.redacts,
        prev_events=[entry.event.event_id for entry in prev],
        auth_events=permitting,
        depth=depth,
        origin_server_ts=now_ms,
        server_name=signer.server_name,
        key=signer.key,
        reference_hashes=_reference_hashes(view, prev, permitting, rules),
    )


def _reference_hashes(
    view: RoomView, prev: Sequence[Entry], permitting: Sequence[str], rules: RoomRules
) -> dict[str, str]:
    """Versions 1 and 2 name other events together with their hashes."""
    if rules.event_id_format is not EventIdFormat.CHOSEN_BY_SENDER:
        return {}
    named = (*prev, *entries_of(view, permitting))
    return {entry.event.event_id: reference_hash(entry.event.pdu, rules) for entry in named}


def _state_before(view: RoomView, prev: Sequence[Entry], rules: RoomRules) -> RoomState:
    """Where there are more extremities than an event may follow, not all of the current state stands before it."""
    if len(prev) == len(view.known_header().extremities):
        return view.current_state()
    scratch = Step(view, offset=0, epoch=0)
    return joined_state(scratch, rules, [entry.event.event_id for entry in prev], view.known_header().extremities)


def _permitting(state: RoomState, intent: Intent, rules: RoomRules) -> list[str]:
    keys = auth_types_for(intent.type, intent.sender, intent.state_key, intent.content, rules)
    unknown = [(state.room_id, state.stored_id, *key) for key in keys if state.lacks(key)]
    if unknown:
        raise Lacking(Needs(state_keys=frozenset(unknown)))
    return [event_id for key in keys if (event_id := state.get(key)) is not None]


def fact_of(event: Event, envelope: Envelope) -> PduCreated:
    """The fact by which an event of ours is logged."""
    return PduCreated(
        envelope=envelope,
        room_id=event.room_id,
        event_id=event.event_id,
        room_version=event.rules.version,
        skeleton=canonical_bytes(skeleton(event.pdu, event.rules)),
        body=canonical_bytes(body(event.pdu, event.rules)),
    )


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What the machine would decide: the view afterwards, and the verdict (None: the fact would be a duplicate)."""

    view: RoomView
    verdict: Verdict | None


def foresee(view: RoomView, fact: PduCreated, offset: int) -> Foreseen | Needs:
    """Judge an event before it is logged. `offset` stands in for the one that the log will give it."""
    outcome = decide(view, fact, offset, epoch=0)
    if not isinstance(outcome, Decided):
        return outcome
    verdicts = [d for d in outcome.decisions if isinstance(d, Verdict) and d.event_id == fact.event_id]
    return Foreseen(outcome.view, verdicts[-1] if verdicts else None)
