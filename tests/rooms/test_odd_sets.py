"""Handshakes, sets and memberships in any order, about any event: decisions, never an exception; and the same ones,
whatever is in memory."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from annals.rooms.trimming import trim
from annals.schemas.facts.rooms import GapAbandoned, RoomFact, RoomForgotten, StateSetClosed
from tests.support.room_weaver import ALICE, CAROL, MEMBER, VERSIONS, Weaver, woven
from tests.support.rooms import Driver, created, envelope, fetched, received
from tests.support.rooms_elsewhere import ERIN, FRANK, chunks, failed, join_facts, outsider, started
from tests.support.soak import few_examples

SEEDS = st.integers(0, 2**32 - 1)
_SETS, _HANDSHAKES = ("s1", "s2", "s3"), ("h1", "h2", "h3")


def _any_fact(rng: Random, weaver: Weaver) -> RoomFact:
    room_id = weaver.room_id
    event = rng.choice(weaver.events)
    ids = [rng.choice(weaver.events).event_id for _ in range(rng.randrange(9))]
    closed = StateSetClosed(
        envelope(),
        room_id,
        rng.choice(_SETS),
        rng.choice(("join", "gap", "gap")),
        event.event_id,
        "peer",
        rng.randrange(12),
        0,
        rng.choice((*_HANDSHAKES, None)),
    )
    # Most sets are what was answered, so that something comes of them.
    held = weaver.oracle.before[event.event_id]
    set_id = f"of {event.event_id}"
    exact = [
        *chunks(room_id, set_id, "state", sorted(held.values())),
        fetched(event, "anchor"),
        StateSetClosed(envelope(), room_id, set_id, closed.purpose, event.event_id, "peer", len(held), 0, "h1"),
    ]
    ways: list[RoomFact] = [
        *exact,
        *exact,
        closed,
        *chunks(room_id, rng.choice(_SETS), rng.choice(("state", "auth", "whim")), ids),
        started(room_id, rng.choice(_HANDSHAKES), rng.choice((ERIN, FRANK)), rng.choice(("join", "knock", "whim"))),
        failed(room_id, rng.choice(_HANDSHAKES)),
        outsider(event, handshake=rng.choice((*_HANDSHAKES, None))),
        GapAbandoned(envelope(), room_id, (event.event_id,), "nobody has it"),
        RoomForgotten(envelope(), room_id, rng.choice((ERIN, FRANK, ALICE))),
        created(event),
        *(fetched(event, purpose) for purpose in ("state", "auth", "anchor", "backfill", "missing_events")),
        received(event),
    ]
    return rng.choice(ways)


@few_examples(12)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(0, 12), st.integers(1, 60))
def test_any_facts_in_any_order(seed: int, version: str, length: int, count: int) -> None:
    weaver, rng = woven(seed, version, length), Random(seed)
    weaver.add((MEMBER, ALICE, FRANK, {"membership": "invite"}))
    answer = join_facts(weaver)
    facts = [_any_fact(rng, weaver) for _ in range(count)]
    at = rng.randrange(len(facts) + 1)
    if rng.random() < 0.5:
        facts[at:at] = [started(weaver.room_id), *answer.facts]
    warm, cold = Driver(weaver.room_id), Driver(weaver.room_id, cold=True)
    for fact in facts:
        warm.feed(fact)
        if rng.random() < 0.2:
            warm.view = trim(warm.view)
    cold.feed(*facts)
    assert warm.encoded() == cold.encoded()
    # What is open can be ended, and then nothing waits.
    ends = [failed(weaver.room_id, handshake_id) for handshake_id in _HANDSHAKES]
    warm.feed(*ends)
    assert (warm.tables.handshakes, warm.tables.queued) == ({}, [])
    # And the room can be joined, or goes on.
    if not warm.tables.room:
        warm.feed(started(weaver.room_id, "last"), *_named("last", weaver, answer.facts))
    said = weaver.build(("m.room.message", CAROL, None, {"last": True}), [answer.event.event_id])
    warm.feed(received(said))
    assert said.event_id in warm.tables.events


def _named(handshake: str, weaver: Weaver, facts: list[RoomFact]) -> list[RoomFact]:
    closed = facts[-1]
    assert isinstance(closed, StateSetClosed)
    again = StateSetClosed(
        envelope(), weaver.room_id, closed.set_id, "join", closed.event_id, "peer", closed.state_count, 0, handshake
    )
    return [*facts[:-1], again]
