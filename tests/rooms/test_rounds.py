"""How often the machine has to ask, and for what: each round is a query of the database."""

from __future__ import annotations

from dataclasses import fields

import pytest

from annals.rooms.needs import Needs
from annals.schemas.facts.rooms import RoomFact
from tests.support.room_weaver import (
    ALICE,
    BOB,
    CAROL,
    MEMBER,
    POWER,
    VERSIONS,
    Weaver,
    Wish,
    driver_of,
    plain_room,
    woven,
)
from tests.support.rooms import Driver, created, fetched, received
from tests.support.soak import is_soak

every_version = pytest.mark.parametrize("version", VERSIONS)


def _kinds(needs: Needs) -> set[str]:
    return {f.name for f in fields(Needs) if getattr(needs, f.name)}


def _rounds(driver: Driver, fact: RoomFact) -> list[set[str]]:
    driver.feed(fact)
    return [_kinds(needs) for needs in driver.asked]


def _grown(version: str) -> tuple[Weaver, Driver]:
    weaver = plain_room(version)
    for n in range(30):
        weaver.add(("org.free", ALICE, f"{n}", {}))
    return weaver, driver_of(weaver)


@every_version
def test_a_warm_message(version: str) -> None:
    weaver, driver = _grown(version)
    message = weaver.add(("m.room.message", CAROL, None, {}))
    assert _rounds(driver, created(message, "txn")) == [{"events", "keys"}]
    asked = driver.asked[0]
    assert (len(asked.events), len(asked.keys)) == (1, 1)
    redaction = weaver.add(("m.room.redaction", BOB, None, {"redacts": message.event_id}))
    assert _rounds(driver, received(redaction)) == [{"events"}]


@every_version
def test_a_warm_state_event(version: str) -> None:
    weaver, driver = _grown(version)
    content = weaver.oracle.events[weaver.oracle.current[POWER, ""]].content
    wishes: list[Wish] = [
        ("m.room.topic", BOB, "", {"topic": "x"}),
        (MEMBER, ALICE, BOB, {"membership": "leave"}),
        (POWER, ALICE, "", {**content, "events_default": 0}),
        *(("org.free", ALICE, "again", {"n": n}) for n in range(9)),
    ]
    for wish in wishes:
        assert _rounds(driver, created(weaver.add(wish), f"txn {wish}")) == [{"events", "keys"}]


@every_version
@pytest.mark.parametrize("how", [received, created])
def test_a_cold_room(version: str, how: object) -> None:
    weaver, driver = _grown(version)
    rounds = [{"rooms", "events"}, {"states", "state_keys"}]
    wishes: list[Wish] = [
        ("m.room.message", CAROL, None, {}),
        ("m.room.topic", ALICE, "", {"topic": "x"}),
        (MEMBER, ALICE, BOB, {"membership": "leave"}),
        (MEMBER, BOB, BOB, {"membership": "join"}),
    ]
    for wish in wishes:
        driver.forget()
        event = weaver.add(wish)
        asked = _rounds(driver, how(event))  # type: ignore[operator]
        # Each eighth state is stored as its difference from the eighth before it: that reads what lies between.
        assert asked in (rounds, [*rounds, {"changes"}])
        if event.state_key is None:
            assert asked == rounds


@every_version
def test_a_second_event_in_a_room_that_was_cold(version: str) -> None:
    weaver, driver = _grown(version)
    driver.forget()
    for event in [weaver.add(("m.room.message", CAROL, None, {"n": n})) for n in range(2)]:
        rounds = _rounds(driver, received(event))
    assert rounds == [{"events"}]


@every_version
def test_repeats_and_outliers(version: str) -> None:
    weaver, driver = _grown(version)
    topic = weaver.add(("m.room.topic", ALICE, "", {"topic": "x"}))
    driver.forget()
    assert _rounds(driver, fetched(topic, "state")) == [{"rooms", "events"}]
    driver.forget()
    assert _rounds(driver, received(weaver.events[7])) == [{"rooms", "events"}]


@every_version
def test_a_cold_merge_of_differing_states(version: str) -> None:
    """Resolving asks for no whole state, and for auth chains as a whole."""
    weaver, driver = _grown(version)
    head = weaver.events[-1].event_id
    for n in range(3):
        weaver.add(("m.room.topic", ALICE, "", {"topic": n}), [head])
    driver.feed(*map(received, weaver.events[-3:]))
    driver.forget()
    merge = weaver.add(("m.room.topic", ALICE, "", {"topic": "merged"}))
    assert _rounds(driver, received(merge)) == [{"rooms", "events"}, {"states", "state_keys"}]
    fork = weaver.add(("m.room.topic", ALICE, "", {"topic": "forked"}), [head])
    driver.forget()
    rounds = _rounds(driver, received(fork))
    assert len(rounds) <= 6
    assert rounds[:2] == [{"rooms", "events"}, {"states", "state_keys"}]
    assert not any("whole_states" in kinds for kinds in rounds), "what differs comes from the deltas"


@every_version
def test_no_room_needs_many_rounds(version: str, request: pytest.FixtureRequest) -> None:
    """Woven rooms fork and merge all the time; each event finds the room cold."""
    rounds = []
    for seed in range(4 if is_soak(request.config) else 2):
        weaver = woven(seed, version, 60)
        driver = Driver(weaver.room_id, cold=True)
        rounds += [len(_rounds(driver, received(event))) for event in weaver.events]
    # Each round is a query by key; of a room whose heads differ, none reads the whole state or a whole auth chain.
    assert max(rounds) <= 13
    assert sum(rounds) / len(rounds) <= 4
