"""Row 12: a room has one create event, and its version, whatever comes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from annals.matrix.events import Event
from annals.schemas.facts.decisions import Skipped
from tests.support.room_weaver import ALICE, VERSIONS, Weaver, driver_of, plain_room
from tests.support.rooms import Driver, fetched, received
from tests.support.rooms_elsewhere import chunks, join_facts, started


def _second_create(weaver: Weaver) -> Event:
    content = {"room_version": weaver.version, "creator": ALICE, "again": True}
    return weaver.build(("m.room.create", ALICE, "", content), (), ())


both = pytest.mark.parametrize("cold", [False, True])


@both
@pytest.mark.parametrize("version", ["10", "11"])
def test_a_set_with_another_create_event(version: str, cold: bool) -> None:
    """Before the room is known nothing says which one is right, but a state has one of a key."""
    weaver = plain_room(version)
    second = weaver.build(
        ("m.room.create", ALICE, "", {"room_version": version, "creator": ALICE, "again": True}), (), ()
    )
    answer = join_facts(weaver)
    driver = Driver(weaver.room_id, cold=cold)
    more = [fetched(second, "state"), *chunks(weaver.room_id, "s1", "state", [second.event_id])]
    wrong = replace(answer.closed, state_count=answer.closed.state_count + 1)
    driver.feed(started(weaver.room_id), *answer.facts[:-1], *more, wrong)
    assert driver.tables.outcomes["h1"].reason == "set_has_two_events_of_one_key"
    assert driver.tables.room == {}


@both
@pytest.mark.parametrize("version", ["10", "11"])
def test_a_gap_whose_state_is_that_of_another_creation(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    driver = driver_of(weaver, cold=cold)
    second = weaver.build(
        ("m.room.create", ALICE, "", {"room_version": version, "creator": ALICE, "again": True}), (), ()
    )
    missing = weaver.add(("m.room.message", ALICE, None, {}))
    child = weaver.add(("m.room.message", ALICE, None, {"n": 2}))
    driver.feed(fetched(child, "missing_events"), fetched(second, "state"))
    assert driver.verdict(second.event_id) == "rejected"
    state = [second.event_id, *list(weaver.oracle.before[missing.event_id].values())[1:]]
    closed = replace(
        join_facts(weaver).closed,
        purpose="gap",
        event_id=missing.event_id,
        set_id="g",
        state_count=len(state),
        handshake_id=None,
    )
    driver.feed(fetched(missing, "anchor"), *chunks(weaver.room_id, "g", "state", state), closed)
    assert driver.verdict(child.event_id) == "dropped"
    assert driver.tables.room["create"] == weaver.events[0].event_id


@both
@pytest.mark.parametrize("version", ["10", "11"])
def test_a_create_event_that_came_first_as_an_outlier(version: str, cold: bool) -> None:
    """Accepted while nothing was known of the room, it is still not the room's."""
    weaver = plain_room(version)
    second = _second_create(weaver)
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(fetched(second, "state"), *map(received, weaver.events))
    assert driver.verdict(second.event_id) == "accepted"
    missing = weaver.add(("m.room.message", ALICE, None, {}))
    state = {**weaver.oracle.before[missing.event_id], ("m.room.create", ""): second.event_id}
    closed = replace(join_facts(weaver).closed, purpose="gap", event_id=missing.event_id, set_id="g", handshake_id=None)
    named = chunks(weaver.room_id, "g", "state", sorted(state.values()))
    driver.feed(fetched(missing, "anchor"), *named, replace(closed, state_count=len(state)))
    skipped = driver.decided[-1][0]
    assert isinstance(skipped, Skipped)
    assert skipped.reason == "set_has_another_create_event"


@both
@pytest.mark.parametrize("version", VERSIONS)
def test_a_redaction_of_the_create_event(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    driver = driver_of(weaver, cold=cold)
    create = weaver.events[0].event_id
    redaction = weaver.add(("m.room.redaction", ALICE, None, {"redacts": create}))
    driver.feed(received(redaction))
    assert driver.verdict(redaction.event_id) == "accepted"
    for event_type, state_key in (("m.room.topic", ""), ("m.room.message", None)):
        event = weaver.add((event_type, ALICE, state_key, {"topic": "after"}))
        driver.feed(received(event))
        assert driver.verdict(event.event_id) == "accepted"
    assert driver.tables.room["version"] == version
    assert driver.tables.room["create"] == create
    header = driver.view.known_header()
    assert header.rules is not None
    assert header.rules.version == version
