"""Records of topic `decisions.<generation>`: the complete output of the room machine (DESIGN.md sections 4 and 5).

A decision is about the fact at `source`, made by the step of the fact at the offset of `position`. The room tables are
a function of the facts of `rooms` and of these records.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Mark:
    """An owner took the partition: void is a lower epoch's record behind it, and a step left incomplete before it."""

    epoch: int
    decide_version: int
    writer: str


@dataclass(frozen=True, slots=True)
class StateEntry:
    """One entry of a room state, or of a difference of two (`event_id` None: the key is gone)."""

    type: str
    state_key: str
    event_id: str | None


@dataclass(frozen=True, slots=True)
class CurrentChange:
    """One change of a room's current state; `membership` is that of the new event where `type` is m.room.member."""

    type: str
    state_key: str
    event_id: str | None
    previous_event_id: str | None
    membership: str | None = None


@dataclass(frozen=True, slots=True)
class RedactionApplied:
    """`redaction` takes the content of `event_id` away."""

    event_id: str
    redaction: str


@dataclass(frozen=True, slots=True)
class StateMade:
    """A new room state, stored as its difference (`delta`) from the state `base_id`; `base_id` None: from nothing.

    `depth` counts state changes; `element_sum` is the fingerprint's sum (256 bytes, big endian).
    """

    state_id: int
    base_id: int | None
    depth: int
    delta: tuple[StateEntry, ...]
    element_sum: bytes


@dataclass(frozen=True, slots=True)
class Decision:
    """What all decisions carry: `position`, the packed stream position, and `source`, the offset of its fact."""

    room_id: str
    position: int
    source: int
    epoch: int
    decide_version: int
    last_of_step: bool


@dataclass(frozen=True, slots=True)
class Verdict(Decision):
    """What the machine thinks of an event: accepted, soft_failed, rejected, parked, dropped or pending_policy.

    `state_before`/`state_after` are state ids (None for an outlier and for what is not in the DAG). `current_delta` is
    the change of the room's current state, `current_state_id` and `current_fingerprint` (SHA-256 of the sum) what it is
    afterwards; both None where it did not change. `replaces` is the event that held the key before this state event.
    `redactions` take effect with this verdict, whichever of redaction and target came first; a redaction whose target
    is not here yet has `redaction_waits_for`, and is among the `redactions_settled` when the target
    comes. `missing` lists what a parked event waits for; of the accepted join by which we came into the room, its
    prev_events. `first` is False where an event is judged again.
    """

    event_id: str
    verdict: str
    rule: str | None = None
    reason: str | None = None
    outlier: bool = False
    backfilled: bool = False
    provisional: bool = False
    first: bool = True
    state_before: int | None = None
    state_after: int | None = None
    states_made: tuple[StateMade, ...] = ()
    extremities_added: tuple[str, ...] = ()
    extremities_removed: tuple[str, ...] = ()
    current_delta: tuple[CurrentChange, ...] = ()
    current_state_id: int | None = None
    current_fingerprint: bytes | None = None
    min_depth: int | None = None
    replaces: str | None = None
    redactions: tuple[RedactionApplied, ...] = ()
    redaction_waits_for: str | None = None
    redactions_settled: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Duplicate(Decision):
    """The fact repeats the key of the fact at `first_source` (of event `first_event_id`): it is never shown or sent."""

    event_id: str
    first_source: int
    first_event_id: str


@dataclass(frozen=True, slots=True)
class Retraction(Decision):
    """An event of ours is refused for good: what was accepted of it is taken back by later verdicts of this step."""

    event_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class WantedOpened(Decision):
    """The room lacks `event_id`; fetchers may ask for it. `kind`: prev or auth."""

    event_id: str
    kind: str
    wanted_by: str


@dataclass(frozen=True, slots=True)
class WantedClosed(Decision):
    """`event_id` came, or was given up (`outcome`: came or abandoned)."""

    event_id: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Halted(Decision):
    """The pure code failed on this fact: the room stands still until it is resumed; its later facts wait."""

    error: str


@dataclass(frozen=True, slots=True)
class Waiting(Decision):
    """A fact of a halted room waits."""


@dataclass(frozen=True, slots=True)
class Skipped(Decision):
    """A fact left out: by an operator (`reason` resumed) or because nothing can be done with it."""

    reason: str
    event_id: str | None = None


@dataclass(frozen=True, slots=True)
class Resumed(Decision):
    """The room goes on; tokens older than this get it as limited."""

    skip: tuple[int, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Rebuilt(Decision):
    """Another generation serves, which has the room otherwise; tokens older than this get it as limited.

    `users` are those whose own membership is another one now, or none at all.
    """

    users: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class MembershipForgotten(Decision):
    """A user who has left does not want to see the room any more."""

    user_id: str


@dataclass(frozen=True, slots=True)
class HandshakeOpened(Decision):
    """A handshake is to be carried out, unless it is `attached_to` one of the room that is open, and ends with it.

    `holds_queue`: what other servers push into the room waits until this one ends.
    """

    handshake_id: str
    kind: str
    user_id: str
    attached_to: str | None
    holds_queue: bool


@dataclass(frozen=True, slots=True)
class HandshakeEnded(Decision):
    """A handshake has an outcome: completed (by `event_id`), failed (`status` and `errcode` are what the client is
    answered) or attached (the one that it was attached to has ended)."""

    handshake_id: str
    outcome: str
    event_id: str | None = None
    status: int | None = None
    errcode: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Queued(Decision):
    """A PDU of a room that is being joined waits for the end of that. `event_id` is its event's."""

    event_id: str


@dataclass(frozen=True, slots=True)
class SetGathered(Decision):
    """A chunk of a set is held until the set is closed; its ids stand in the fact. `count`: how many they are."""

    set_id: str
    role: str
    count: int


@dataclass(frozen=True, slots=True)
class RoomEntered(Decision):
    """A set from outside makes a room known that was not: its create event was accepted as an outlier."""

    room_version: str
    create_event_id: str
    creator: str


@dataclass(frozen=True, slots=True)
class MembershipTaken(Decision):
    """`event_id` is what we know of a user of ours in a room whose state we do not have."""

    event_id: str
    user_id: str
    membership: str


@dataclass(frozen=True, slots=True)
class DecisionPart:
    """One part of a decision of over 65,536 bytes; `data` of parts 0 to `count` - 1 together are its record.

    `group` is the SHA-256 of that record. `epoch` is the decision's, so that a part behind a newer mark is void alone.
    """

    epoch: int
    group: bytes
    index: int
    count: int
    data: bytes
