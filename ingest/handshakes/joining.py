"""Joining a room through one of its servers: make_join, send_join, and the room on the log."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from itertools import pairwise
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
from annals.ingest.handshakes.templates import JOIN, Asked, Template
from annals.ingest.handshakes.writing import Writing, one_ahead
from annals.ingest.pdu_facts import pdu_quarantined
from annals.ingest.verification import Candidate, KeyUnavailable, Prepared, Quarantined, Verified
from annals.matrix.events import Event
from annals.matrix.room_versions import RoomRules
from annals.schemas.facts.envelope import Fact

log = structlog.get_logger(__name__)

#: So many events are verified at once.
AT_ONCE = 500
#: Of what an answer holds that is bad, so much goes to quarantine: a server could send millions.
QUARANTINED_MAX = 20


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
    believed, writing = Believed(plan), Writing(desk, handshake, server, frozenset(plan.state))
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

    async def made(first: int, end: int) -> list[list[Fact]]:
        part = await verified(ordered[max(first, plan.stands_on) : end])
        # With the next ones: of a room of the usual size nothing is on the log before all of it is verified.
        return await writing.batches_of([*stands_on, *part] if first == 0 else part)

    bounds = (0, *range(max(AT_ONCE, plan.stands_on), len(ordered), AT_ONCE), len(ordered))
    async with aclosing(one_ahead([partial(made, *part) for part in pairwise(bounds)])) as parts:
        async for batches in parts:
            await writing.add(batches)
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
