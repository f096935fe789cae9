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
    Believed,
    JoinAnswer,
    check_same_event,
    plan_room,
    read_join_answer,
)
from annals.ingest.handshakes.desk import Desk, Handshake, failure_of, is_unknown_endpoint
from annals.ingest.handshakes.errors import AnswerRefused
from annals.ingest.handshakes.foreseeing import check_allowed
from annals.ingest.handshakes.metrics import EVENTS
from annals.ingest.handshakes.templates import JOIN, Asked, Template
from annals.ingest.pdu_facts import pdu_fetched, pdu_quarantined
from annals.ingest.verification import Candidate, KeyUnavailable, Prepared, Quarantined, Verified
from annals.matrix.events import Event
from annals.matrix.room_versions import RoomRules
from annals.projectors.positions.appending import Submitted
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.rooms import PduFact, StateSetChunk, StateSetClosed

log = structlog.get_logger(__name__)

#: So many events are verified, and then logged, at once.
AT_ONCE, BYTES_AT_ONCE = 500, 4 << 20
CHUNKS_AT_ONCE = 50
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
    await take_room(desk, handshake, asked, answer, template.rules, anchor)


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


async def take_room(
    desk: Desk, handshake: Handshake, asked: Asked, answer: JoinAnswer, rules: RoomRules, anchor: Verified
) -> None:
    """Verify an answer and write it down: its events, the set of their ids, our join, and that the set is whole.

    How it hangs together is looked at first, as a whole, and then what our join stands on. The other signatures are
    checked as it is written, while the tables take what was checked before: where one is bad, what is on the log by
    then stays outside of the room.
    """
    server, pdus = asked.server, answer.pdus
    prepared: list[Prepared | Quarantined] = []
    for first in range(0, len(pdus), AT_ONCE):
        batch = [Candidate(pdu, rules) for pdu in pdus[first : first + AT_ONCE]]
        prepared += await desk.pdus.prepare(batch)
    refused = [(item, pdu) for item, pdu in zip(prepared, pdus, strict=True) if isinstance(item, Quarantined)]
    await quarantine(desk, handshake, server, rules, refused)
    plan = await desk.in_thread(partial(plan_room, answer, prepared, asked, rules, anchor.event))
    ordered = [(item, pdus[index]) for index in plan.order if isinstance(item := prepared[index], Prepared)]
    keys = await desk.pdus.keys([item for item, _ in ordered])
    believed, writing = Believed(plan), _Writing(desk, handshake, server, frozenset(plan.state))
    quarantined = 0

    async def verified(part: Sequence[tuple[Prepared, Any]]) -> list[Verified]:
        nonlocal quarantined
        outcomes = await desk.pdus.judge([item for item, _ in part], keys)
        bad = [(found, pdu) for found, (_, pdu) in zip(outcomes, part, strict=True) if not isinstance(found, Verified)]
        await quarantine(desk, handshake, server, rules, bad, QUARANTINED_MAX - quarantined)
        quarantined += len(bad)
        return believed.take(outcomes)

    stands_on = await verified(ordered[: plan.stands_on])
    believed.check_lets_us_in()
    check_allowed(anchor.event, [item.event for item in stands_on], plan.state)
    done = plan.stands_on
    while stands_on or done < len(ordered):
        part = ordered[done : done + max(1, AT_ONCE - len(stands_on))]
        done += len(part)
        # With the next ones: of a room of the usual size nothing is on the log before all of it is verified.
        await writing.add([*stands_on, *await verified(part)])
        stands_on = []
    state, auth_chain = believed.ids()
    log.info("join_verified", handshake=handshake.handshake_id, server=server, events=writing.count)
    await writing.finish(state, auth_chain, anchor)


async def quarantine(
    desk: Desk,
    handshake: Handshake,
    server: str,
    rules: RoomRules,
    bad: Sequence[tuple[Quarantined | KeyUnavailable, Any]],
    count_max: int = QUARANTINED_MAX,
) -> None:
    """Write down what of an answer cannot be verified, up to a number."""
    if not bad:
        return
    envelope, via = desk.writer.envelope(cause=handshake.handshake_id), handshake.handshake_id
    log.warning("join_events_refused", handshake=handshake.handshake_id, server=server, count=len(bad))
    written = bad[: max(0, count_max)]
    if written:
        await desk.writer.submit(
            [pdu_quarantined(found, pdu, rules.version, envelope, server, via) for found, pdu in written]
        )


class _Writing:
    """The room on the log, of which no more than two batches are ahead of the tables."""

    def __init__(self, desk: Desk, handshake: Handshake, server: str, state: frozenset[str]) -> None:
        self._desk, self._handshake, self._server, self._state = desk, handshake, server, state
        self._before: Submitted | None = None
        self.count = 0

    async def add(self, events: Sequence[Verified]) -> None:
        """The next events. Those that are on the log already are only named, in the set."""
        if not events:
            return
        self.count += len(events)
        ids = [item.event.event_id for item in events]
        known = await self._desk.known_events(self._handshake.room_id, ids)
        # In a thread, while others use the loop, and while the tables take the batch before it.
        for batch in await self._desk.in_thread(lambda: list(self._batches(events, known))):
            await self._submit(batch)
            EVENTS.inc(len(batch))

    async def finish(self, state: Sequence[str], auth_chain: Sequence[str], anchor: Verified) -> None:
        """The set, our event, and that the set is whole; returns when the tables have it."""
        desk, handshake, via = self._desk, self._handshake, self._handshake.handshake_id
        set_id = f"{via}.{desk.new_id()}"
        parts: list[Fact] = [
            StateSetChunk(desk.writer.envelope(cause=via), handshake.room_id, set_id, role, index, chunk)
            for role, event_ids in (("auth", auth_chain), ("state", state))
            for index, chunk in enumerate(chunks(event_ids))
        ]
        for first in range(0, len(parts), CHUNKS_AT_ONCE):
            await self._submit(parts[first : first + CHUNKS_AT_ONCE])
        closed = StateSetClosed(
            envelope=desk.writer.envelope(cause=via),
            room_id=handshake.room_id,
            set_id=set_id,
            purpose=PURPOSE,
            event_id=anchor.event.event_id,
            origin=self._server,
            state_count=len(state),
            auth_count=len(auth_chain),
            handshake_id=via,
        )
        await desk.write([pdu_fetched(anchor, desk.writer.envelope(), self._server, via, "anchor"), closed])

    async def _submit(self, facts: Sequence[Fact]) -> None:
        submitted = await self._desk.submit(facts)
        if self._before is not None:
            await self._desk.settle(self._before)
        self._before = submitted

    def _batches(self, events: Sequence[Verified], known: frozenset[str]) -> Iterator[list[Fact]]:
        batch: list[Fact] = []
        size = 0
        for item in events:
            if item.event.event_id in known:
                continue
            purpose = "state" if item.event.event_id in self._state else "auth"
            envelope = self._desk.writer.envelope()
            fact = pdu_fetched(item, envelope, self._server, self._handshake.handshake_id, purpose)
            if batch and (len(batch) >= AT_ONCE or size + _size(fact) > BYTES_AT_ONCE):
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
