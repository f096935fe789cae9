"""What is in memory changes no decision: facts and decisions are all that the machine knows."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from annals.rooms import trimming
from annals.rooms import view as views
from annals.rooms.trimming import trim
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.rooms import GapAbandoned, RoomFact
from tests.support.room_weaver import VERSIONS, woven
from tests.support.rooms import Driver, created, envelope, fetched, received
from tests.support.soak import few_examples

SEEDS = st.integers(0, 2**32 - 1)


def mixed_facts(rng: Random, seed: int, version: str, length: int) -> tuple[str, list[RoomFact]]:
    """A woven room as facts of every kind: out of order, repeated, fetched, given up."""
    weaver = woven(seed, version, length)
    facts: list[RoomFact] = []
    for event in weaver.events:
        ways: list[RoomFact] = [received(event) for _ in range(6)]
        ways.append(created(event, f"key{rng.randrange(length + 1)}"))
        ways += [fetched(event, purpose) for purpose in ("missing_events", "state", "auth", "backfill")]
        facts.append(rng.choice(ways))
        if rng.random() < 0.2:
            facts.append(received(event))
    for _ in range(length // 3):
        moved = facts.pop(rng.randrange(4, len(facts)))
        facts.insert(rng.randrange(4, len(facts) + 1), moved)
    for event in rng.sample(weaver.events, min(2, len(weaver.events))):
        given_up = GapAbandoned(envelope(), weaver.room_id, (event.event_id,), "nobody has it")
        facts.insert(rng.randrange(len(facts)), given_up)
    facts.extend(received(event) for event in weaver.events)
    return weaver.room_id, facts


def _decisions(room_id: str, facts: list[RoomFact], rng: Random | None, cold: bool = False) -> list[list[bytes]]:
    driver = Driver(room_id, cold=cold)
    for fact in facts:
        driver.feed(fact)
        if rng is not None and rng.random() < 0.3:
            driver.view = rng.choice([views.unknown_room(room_id), trim(driver.view)])
    return driver.encoded()


# A key of a state is asked for through another one that stands on it, and again when that state itself is loaded.
@example(3127462061, "12", 30)
@few_examples(8)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(0, 40))
def test_a_forgotten_view_decides_the_same(seed: int, version: str, length: int) -> None:
    rng = Random(seed)
    room_id, facts = mixed_facts(rng, seed, version, length)
    warm = _decisions(room_id, facts, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trimming, "EVENTS_KEPT", 6)
        assert _decisions(room_id, facts, rng) == warm
    assert _decisions(room_id, facts, None, cold=True) == warm


def test_facts_of_the_tests_are_facts() -> None:
    """The mixture holds every kind that it is meant to hold."""
    _, facts = mixed_facts(Random(1), 1, "12", 60)
    kinds: set[type[Fact]] = {type(fact) for fact in facts}
    assert {kind.__name__ for kind in kinds} == {"PduCreated", "PduReceived", "PduFetched", "GapAbandoned"}
