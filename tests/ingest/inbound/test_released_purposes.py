"""What we asked for and could not check at once comes back as what it was, when its key is there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from annals.ingest.inbound.retrying import QuarantineRetrier
from annals.ingest.pdu_facts import pdu_quarantined
from annals.ingest.verification import Candidate, KeyUnavailable, Outcome, Verified
from annals.matrix.events import Event, parse_event
from annals.schemas.codec import decode
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.facts.quarantine import QuarantineRetried
from annals.schemas.facts.rooms import PduFetched, PduReceived
from tests.support.egress_world import membership, remote_event
from tests.support.projectors import append, envelope
from tests.support.sync_fixtures import world
from tests.support.sync_world import NOW_MS, World

__all__ = ["world"]

ORIGIN, BOB = "peer.example", "@bob:peer.example"


@dataclass
class Writer:
    """Facts get on the log, and into the tables."""

    world: World

    def envelope(self, cause: str | None = None, idempotency_key: str | None = None) -> Envelope:
        return envelope()

    async def submit(self, facts: Sequence[Fact]) -> object:
        self.world.put(*facts)
        return None


class KeysAreThere:
    """Every check passes."""

    async def verify(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        return [Verified(parse_event(of.pdu, of.rules), (), True) for of in candidates]


def kept(event: Event, via: str) -> Fact:
    """What nobody could check when it came."""
    unknown = KeyUnavailable(event.event_id, (), "", NOW_MS)
    return pdu_quarantined(unknown, event.pdu, event.rules.version, envelope(), ORIGIN, via)


def retried(world: World, *facts: Fact) -> list[Any]:
    """What a pass over the quarantine writes."""
    append(world.log, facts)
    verifier: Any = KeysAreThere()
    retrier = QuarantineRetrier(world.log, Writer(world), world.database, verifier, lambda: NOW_MS)
    starts = {p: world.log.end("rooms", p) for p in range(world.log.partitions("rooms"))}
    asyncio.run(retrier.work())
    found = [record for p, start in starts.items() for record in world.log.read("rooms", p, start, 1_000)]
    return [decode(record.value) for record in found if record.value is not None]


PURPOSES = {
    "backfill": "backfill",
    "get_missing_events": "missing_events",
    "event": "missing_events",
    "event_auth": "auth",
    "state_ids": "state",
    "vW3k_handshakes_id": "state",
    "transaction backfill": None,
}


@pytest.mark.parametrize("denied", [False, True], ids=["", "by a server that is denied now"])
def test_a_released_event_has_the_purpose_that_it_had(world: World, denied: bool) -> None:
    room = world.room()
    world.feed(room, membership(room, BOB))
    events = {via: remote_event(room, BOB, "m.room.message", {"body": via}) for via in PURPOSES}
    if denied:
        world.send(room, "alice", "m.room.server_acl", {"allow": ["*"], "deny": [ORIGIN]}, "")
    facts = retried(world, *(kept(event, via) for via, event in events.items()))
    found = {fact.event_id: getattr(fact, "purpose", None) for fact in facts}
    # Of what a server pushed, the ACL is asked; and how it names its transaction makes it no answer of ours.
    wanted = {via: purpose for via, purpose in PURPOSES.items() if purpose is not None or not denied}
    assert found == {events[via].event_id: purpose for via, purpose in wanted.items()}
    assert {type(fact) for fact in facts} == ({PduFetched} if denied else {PduFetched, PduReceived})
    ended = [decode(record.value or b"") for p in range(world.log.partitions("quarantine"))
             for record in world.log.read("quarantine", p, 0, 1_000)]  # fmt: skip
    outcomes = [fact.outcome for fact in ended if isinstance(fact, QuarantineRetried)]
    assert sorted(outcomes) == sorted(["acl_denied"] * denied + ["released"] * len(wanted))


def test_a_released_event_of_the_past_is_no_head_of_the_room(world: World) -> None:
    room = world.room()
    world.feed(room, membership(room, BOB))
    past = remote_event(room, BOB, "m.room.message", {"body": "long ago"})
    head = world.say(room, "alice")
    retried(world, kept(past, "backfill"))
    rows = world.database.read_now(
        lambda s: s.rows("SELECT event_id FROM forward_extremities WHERE room_id = %s", (room.room_id,))
    )
    assert rows == [(head.event_id,)]
    since = world.sync("alice")["next_batch"]
    assert world.sync("alice", since)["empty"]
    assert past.event_id in [event["event_id"] for event in world.messages("alice", room)["chunk"]]
