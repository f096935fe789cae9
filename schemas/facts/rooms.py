"""Facts of topic `rooms`, keyed by room_id."""

from __future__ import annotations

from dataclasses import dataclass

from annals.schemas.facts.envelope import Fact, Sealable


@dataclass(frozen=True, slots=True)
class SignatureChecked:
    """One signature of a PDU, and what came of checking it before the log."""

    server: str
    key_id: str
    verdict: str


@dataclass(frozen=True, slots=True)
class RoomFact(Fact):
    """A fact about one room."""

    room_id: str


@dataclass(frozen=True, slots=True)
class PduFact(RoomFact):
    """A PDU, split so that `annals.matrix.record_parts.merge(skeleton, body)` is the exact event.

    `skeleton` and `body` are canonical JSON. `content_hash_ok` is False where the content hash failed: then the
    skeleton alone is judged and kept.
    """

    event_id: str
    room_version: str
    skeleton: bytes
    body: Sealable


@dataclass(frozen=True, slots=True)
class PduCreated(PduFact):
    """An event that this server built and signed for one of its users."""


@dataclass(frozen=True, slots=True)
class PduReceived(PduFact):
    """An event that another server pushed to us, verified before it was logged."""

    origin: str
    via: str
    signatures: tuple[SignatureChecked, ...]
    content_hash_ok: bool


@dataclass(frozen=True, slots=True)
class PduFetched(PduFact):
    """An event that we asked another server for. `purpose`: missing_events, backfill, state, auth or anchor.

    Events of a backfill are timeline events of the past; those of state and auth are outliers. So is an anchor, until
    the state before it comes by a StateSetClosed that names it.
    """

    origin: str
    via: str
    purpose: str
    signatures: tuple[SignatureChecked, ...]
    content_hash_ok: bool


@dataclass(frozen=True, slots=True)
class EventRefused(RoomFact):
    """An event of ours, logged before, was refused when it was decided: the refusal lasts, its key is free again."""

    event_id: str
    refused_key: str | None
    rule: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class GapAbandoned(RoomFact):
    """These events cannot be had; what is parked behind them is dropped."""

    event_ids: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class RoomResumed(RoomFact):
    """An operator lets a halted room go on, leaving out the facts at the offsets `skip`."""

    actor: str
    reason: str
    skip: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RoomForgotten(RoomFact):
    """A local user who is not in the room any more wants it out of sight."""

    user_id: str


@dataclass(frozen=True, slots=True)
class RoomRebuilt(RoomFact):
    """A switch of generations changed what the server believes of the room: tokens older than this get it as limited.

    It enters no hash and judges nothing: every generation takes it alike. `switch` is the switch's id. `users` are
    those of ours whose own membership is another one now, or none at all: each is told. Many are told by several facts.
    """

    switch: str
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HandshakeStarted(RoomFact):
    """A local user wants into, or out of, a room by way of other servers. `kind`: join, knock or leave.

    `servers` are asked in this order. `content` is what the member event shall carry beside `membership`, canonical
    JSON of an object. While a join is under way, what other servers push into the room waits for its end.
    """

    handshake_id: str
    kind: str
    user_id: str
    servers: tuple[str, ...]
    content: Sealable


@dataclass(frozen=True, slots=True)
class HandshakeFailed(RoomFact):
    """A handshake came to nothing: no server granted it, its answer was wrong, or its time ran out.

    `status` and `errcode` are what the user's client is answered; `server` is who said so last, if anybody.
    """

    handshake_id: str
    server: str | None
    status: int
    errcode: str
    reason: str


@dataclass(frozen=True, slots=True)
class StateSetChunk(RoomFact):
    """At most 1,000 event ids of a set that another server answered. `role`: state or auth; `index` counts from 0."""

    set_id: str
    role: str
    index: int
    event_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StateSetClosed(RoomFact):
    """The set is whole: its state is the room's state before `event_id`, which is judged by it and takes its place.

    `purpose`: join (the event is our user's member event, and `handshake_id` ends with it) or gap (an event of the past
    whose own prev_events we lack). The event and all that its set names stand on the log before: what could not be
    verified or had is named by no chunk. `state_count` and `auth_count` are the numbers of ids in the chunks.
    """

    set_id: str
    purpose: str
    event_id: str
    origin: str
    state_count: int
    auth_count: int
    handshake_id: str | None


@dataclass(frozen=True, slots=True)
class MembershipReceived(PduFact):
    """A member event of one of our users in a room whose state we do not have: an invite that we signed too, a knock
    that was let in, or what answered one of them (a leave, a ban).

    It is an outlier. `room_state` is what was sent along to show the room by (invite_room_state, knock_room_state):
    canonical JSON of a list. `handshake_id`: the handshake that ends with it, if any.
    """

    origin: str
    via: str
    signatures: tuple[SignatureChecked, ...]
    content_hash_ok: bool
    room_state: Sealable
    handshake_id: str | None


@dataclass(frozen=True, slots=True)
class MembershipAsked(RoomFact):
    """PDUs came for a room of which we know nothing: `origin` was asked whether a user of ours is in it.

    `member`: a user of ours whose join, validly signed by our key, is in the state that it answered; None: there is
    none, and what comes for the room is dropped for a while.
    """

    origin: str
    event_id: str
    member: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class PolicyAnswered(RoomFact):
    """What came of asking the room's policy server about an event of another server.

    `outcome`: signed (`signature` is the server's, base64), refused (it, or who answers in its place, said no with
    `status`, `errcode` and `reason`), unavailable (it could not be asked within the time that there is for that) or
    unneeded (the room uses none any more; then `server` is ""). It holds for the server that the room names when it is
    decided.
    """

    event_id: str
    server: str
    outcome: str
    signature: str | None
    status: int | None
    errcode: str | None
    reason: str | None
