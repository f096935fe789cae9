"""Joining a room through one of its servers: make_join, send_join, and the room on the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import structlog

from annals.federation.client import path_of
from annals.federation.errors import FederationError
from annals.federation.settings import JOIN_BYTES_MAX
from annals.ingest.handshakes.answers import (
    JoinAnswer,
    WholeRoom,
    check_same_event,
    read_join_answer,
    whole_room,
)
from annals.ingest.handshakes.desk import Desk, Handshake, failure_of, is_unknown_endpoint
from annals.ingest.handshakes.errors import AnswerRefused
from annals.ingest.handshakes.foreseeing import check_allowed
from annals.ingest.handshakes.metrics import EVENTS
from annals.ingest.handshakes.templates import JOIN, Asked, Template
from annals.ingest.pdu_facts import pdu_fetched, pdu_quarantined
from annals.ingest.verification import Candidate, Outcome, Verified
from annals.matrix.events import Event
from annals.matrix.room_versions import RoomRules
from annals.projectors.positions.appending import Submitted
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.rooms import PduFact, StateSetChunk, StateSetClosed

log = structlog.get_logger(__name__)

VERIFIED_AT_ONCE = 500
RECORDS_AT_ONCE, BYTES_AT_ONCE = 500, 4 << 20
CHUNK_IDS_MAX, CHUNK_BYTES_MAX = 1000, 48 << 10
#: Of what an answer holds that is bad, so much goes to quarantine: a server could send millions.
QUARANTINED_MAX = 20
PURPOSE = "join"


async def join(desk: Desk, handshake: Handshake, server: str) -> None:
    """One attempt. Raises `AttemptFailed` with nothing of the room on the log but, perhaps, events of it."""
    asked = Asked(handshake.room_id, handshake.user_id, JOIN, server)
    template = await desk.template(asked, "make_join")
    ours = desk.signed(template, asked, handshake.content)
    log.info("join_signed", handshake=handshake.handshake_id, server=server, event_id=ours.event_id)
    answer = await _send(desk, asked, ours)
    anchor = await _anchor(desk, template, answer, ours)
    log.info("join_answered", handshake=handshake.handshake_id, server=server, pdus=len(answer.pdus))
    outcomes = await verify(desk, answer.pdus, template.rules)
    await quarantine(desk, handshake, server, template.rules, answer.pdus, outcomes)
    room = await desk.in_thread(partial(whole_room, answer, outcomes, asked, template.rules, ours))
    await desk.in_thread(partial(check_allowed, anchor.event, room))
    log.info("join_verified", handshake=handshake.handshake_id, server=server, events=len(room.events))
    await write_room(desk, handshake, server, room, anchor)


async def _send(desk: Desk, asked: Asked, ours: Event) -> JoinAnswer:
    body, is_v1 = await _sent(desk, asked, ours)
    return await desk.in_thread(partial(read_join_answer, body, is_v1=is_v1))


async def _sent(desk: Desk, asked: Asked, ours: Event) -> tuple[bytes, bool]:
    for version in ("v2", "v1"):
        path = path_of("federation", version, "send_join", asked.room_id, ours.event_id)
        try:
            body = await desk.client.ask(
                asked.server, "PUT", path, content=ours.pdu, timeout_s=desk.send_timeout_s, bytes_max=JOIN_BYTES_MAX
            )
        except FederationError as error:
            if version == "v2" and is_unknown_endpoint(error):
                continue
            raise failure_of(error) from error
        return body, version == "v1"
    raise AssertionError("unreachable")


async def _anchor(desk: Desk, template: Template, answer: JoinAnswer, ours: Event) -> Verified:
    """Our event with all the signatures that it needs."""
    if answer.event is None:
        # v8+: "The resident server which owns the provided user ID must have a valid signature on the event."
        if template.authoriser is not None:
            raise AnswerRefused("our event was not answered, so that nobody vouches for the join")
        return desk.verified(ours)
    check_same_event(answer.event, ours)
    [outcome] = await desk.pdus.verify([Candidate(answer.event, template.rules, asked_for=ours.event_id)])
    if not isinstance(outcome, Verified) or not outcome.content_hash_ok:
        raise AnswerRefused(f"our event does not pass as it was answered: {getattr(outcome, 'detail', '')}"[:1000])
    return outcome


async def verify(desk: Desk, pdus: Sequence[Any], rules: RoomRules) -> list[Outcome]:
    """What each PDU of an answer is, in their order."""
    outcomes: list[Outcome] = []
    for first in range(0, len(pdus), VERIFIED_AT_ONCE):
        batch = [Candidate(pdu, rules) for pdu in pdus[first : first + VERIFIED_AT_ONCE]]
        outcomes += await desk.pdus.verify(batch)
    return outcomes


async def quarantine(
    desk: Desk, handshake: Handshake, server: str, rules: RoomRules, pdus: Sequence[Any], outcomes: Sequence[Outcome]
) -> None:
    """Write down what of an answer cannot be verified, up to a number."""
    envelope, via = desk.writer.envelope(cause=handshake.handshake_id), handshake.handshake_id
    bad = [(item, pdu) for item, pdu in zip(outcomes, pdus, strict=True) if not isinstance(item, Verified)]
    if not bad:
        return
    log.warning("join_events_refused", handshake=handshake.handshake_id, server=server, count=len(bad))
    facts = [pdu_quarantined(item, pdu, rules.version, envelope, server, via) for item, pdu in bad[:QUARANTINED_MAX]]
    await desk.writer.submit(facts)


async def write_room(desk: Desk, handshake: Handshake, server: str, room: WholeRoom, anchor: Verified) -> None:
    """The room on the log: its events, the set of their ids, our join, and that the set is whole."""
    known = await desk.known_events(handshake.room_id, [item.event.event_id for item in room.events])
    batches = _batches(desk, handshake, server, room, known)
    before: Submitted | None = None
    # Each batch is made in a thread, while others use the loop, and while the tables take the one before it.
    while batch := await desk.in_thread(lambda: next(batches, None)):
        submitted = await desk.submit(batch)
        EVENTS.inc(len(batch))
        if before is not None:
            await desk.settle(before)
        before = submitted
    set_id = f"{handshake.handshake_id}.{desk.new_id()}"
    for role, event_ids in (("auth", room.auth_chain), ("state", room.state)):
        for index, chunk in enumerate(chunks(event_ids)):
            envelope = desk.writer.envelope(cause=handshake.handshake_id)
            await desk.write([StateSetChunk(envelope, handshake.room_id, set_id, role, index, chunk)])
    await desk.write(
        [
            pdu_fetched(anchor, desk.writer.envelope(), server, handshake.handshake_id, "anchor"),
            StateSetClosed(
                envelope=desk.writer.envelope(cause=handshake.handshake_id),
                room_id=handshake.room_id,
                set_id=set_id,
                purpose=PURPOSE,
                event_id=anchor.event.event_id,
                origin=server,
                state_count=len(room.state),
                auth_count=len(room.auth_chain),
                handshake_id=handshake.handshake_id,
            ),
        ]
    )


def _batches(
    desk: Desk, handshake: Handshake, server: str, room: WholeRoom, known: frozenset[str]
) -> Iterator[list[Fact]]:
    batch: list[Fact] = []
    size, state = 0, frozenset(room.state)
    for item in room.events:
        if item.event.event_id in known:
            continue
        purpose = "state" if item.event.event_id in state else "auth"
        fact = pdu_fetched(item, desk.writer.envelope(), server, handshake.handshake_id, purpose)
        if batch and (len(batch) >= RECORDS_AT_ONCE or size + _size(fact) > BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(fact)
        size += _size(fact)
    if batch:
        yield batch


def _size(fact: PduFact) -> int:
    return len(fact.skeleton) + (len(fact.body) if isinstance(fact.body, bytes) else 0)


def chunks(event_ids: Sequence[str]) -> list[tuple[str, ...]]:
    """In parts that fit into a record each: ids of versions 1 and 2 may be long."""
    parts: list[list[str]] = []
    size = CHUNK_BYTES_MAX
    for event_id in event_ids:
        length = len(event_id.encode()) + 3
        if not parts or len(parts[-1]) >= CHUNK_IDS_MAX or size + length > CHUNK_BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append(event_id)
        size += length
    return [tuple(part) for part in parts]
