"""Facts that make no sense: a decision, never an exception; and the room goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.canonical_json import canonical_bytes, loads
from annals.schemas.facts.decisions import Skipped, Verdict
from annals.schemas.facts.rooms import EventRefused, GapAbandoned, PduFact, RoomForgotten
from tests.support.room_weaver import ALICE, BOB, VERSIONS, Weaver, Wish, driver_of, plain_room
from tests.support.rooms import Driver, created, envelope, received

every_version = pytest.mark.parametrize("version", VERSIONS)
both = pytest.mark.parametrize("cold", [False, True])

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5) | st.sampled_from(["$x", ALICE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(
    ["type", "sender", "state_key", "content", "prev_events", "auth_events", "depth", "room_id", "redacts", "hashes"]
)


def _said(weaver: Weaver, event_type: str = "m.room.message", **content: Any) -> PduFact:
    return received(weaver.build((event_type, ALICE, None, content)))


def _assert_goes_on(weaver: Weaver, driver: Driver) -> None:
    event = weaver.build(("m.room.message", BOB, None, {"n": "after"}))
    driver.feed(created(event))
    assert driver.verdict(event.event_id) == "accepted"


def _assert_skipped(driver: Driver, fact: PduFact, reason: str) -> None:
    (decision,) = driver.feed(fact)
    assert isinstance(decision, Skipped)
    assert (decision.reason, decision.event_id) == (reason, fact.event_id)
    assert fact.event_id not in driver.tables.events


@given(st.data(), st.sampled_from(VERSIONS), st.booleans())
def test_any_skeleton(data: st.DataObject, version: str, cold: bool) -> None:
    weaver = plain_room(version)
    driver = driver_of(weaver, cold=cold)
    kind = data.draw(st.sampled_from(["m.room.message", "m.room.redaction", "m.room.member", "m.room.create"]))
    fact = _said(weaver, kind)
    skeleton = loads(fact.skeleton)
    for key in data.draw(st.lists(KEYS, min_size=1, max_size=2)):
        if data.draw(st.booleans()):
            skeleton.pop(key, None)
        else:
            skeleton[key] = data.draw(ANY_JSON)
    driver.feed(replace(fact, skeleton=canonical_bytes(skeleton)))
    _assert_goes_on(weaver, driver)


@given(st.binary(max_size=40), st.binary(max_size=40), st.sampled_from(VERSIONS), st.booleans())
def test_any_bytes(skeleton: bytes, body: bytes, version: str, cold: bool) -> None:
    weaver = plain_room(version)
    driver = driver_of(weaver, cold=cold)
    _assert_skipped(driver, replace(_said(weaver), skeleton=skeleton, body=body), "malformed")
    _assert_goes_on(weaver, driver)


@both
def test_a_redaction_whose_body_is_no_json(cold: bool) -> None:
    weaver = plain_room("10")
    driver = driver_of(weaver, cold=cold)
    _assert_skipped(driver, replace(_said(weaver, "m.room.redaction"), body=b"{"), "malformed")
    _assert_goes_on(weaver, driver)


@both
@every_version
def test_facts_of_other_rooms_and_versions(version: str, cold: bool) -> None:
    weaver, other_version = plain_room(version), "11" if version == "10" else "10"
    driver = driver_of(weaver, cold=cold)
    foreign = Weaver(version, weaver.rng)
    foreign.room_id = "!" + "o" * 43 if version == "12" else "!other:test"
    fact = received(foreign.build(("m.room.message", ALICE, None, {})))
    _assert_skipped(driver, replace(fact, room_id=weaver.room_id), "other_room")
    _assert_skipped(driver, replace(_said(weaver, n=1), room_version="none of ours"), "unknown_room_version")
    _assert_skipped(driver, replace(_said(weaver, n=2), room_version=other_version), "other_room_version")
    _assert_goes_on(weaver, driver)


@both
def test_an_event_of_another_version_before_the_room_is_known(cold: bool) -> None:
    weaver = plain_room("11")
    driver = Driver(weaver.room_id, cold=cold)
    child, grandchild = weaver.add(("m.room.message", ALICE, None, {})), weaver.add(("m.room.message", ALICE, None, {}))
    driver.feed(replace(received(child), room_version="10"), replace(received(grandchild), room_version="10"))
    driver.feed(*map(received, weaver.events[:-2]))
    for event in (child, grandchild):
        assert driver.verdict(event.event_id) == "dropped"
    assert driver.tables.wanted == set()
    assert driver.tables.room["version"] == "11"


@both
@pytest.mark.parametrize("version", ["10", "11"])
def test_a_second_create_event(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    driver = driver_of(weaver, cold=cold)
    content = {"room_version": version, "creator": ALICE, "again": True}
    second = weaver.build(("m.room.create", ALICE, "", content), (), ())
    driver.feed(received(second))
    verdict: Verdict = driver.tables.events[second.event_id]["verdict"]
    assert (verdict.verdict, verdict.reason) == ("rejected", "second_create")
    assert driver.tables.room["create"] == weaver.events[0].event_id
    _assert_goes_on(weaver, driver)


@both
@pytest.mark.parametrize("state_key", ["x", None])
@every_version
def test_a_create_event_that_makes_no_room(version: str, state_key: str | None, cold: bool) -> None:
    weaver = plain_room(version)
    content = {"room_version": version, "creator": ALICE}
    odd = weaver.build(("m.room.create", ALICE, state_key, content), (), ())
    unknown = Driver(odd.room_id, cold=cold)
    for driver in (driver_of(weaver, cold=cold), unknown):
        if driver.room_id == odd.room_id:
            driver.feed(received(odd))
            assert driver.verdict(odd.event_id) == "rejected"
    assert unknown.tables.room == {}


@both
@every_version
def test_a_create_event_that_is_rejected_makes_no_room(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    content = {"room_version": "no such version", "creator": ALICE}
    create = weaver.build(("m.room.create", ALICE, "", content), (), ())
    driver = Driver(create.room_id, cold=cold)
    driver.feed(received(create))
    assert driver.verdict(create.event_id) == "rejected"
    weaver.room_id = create.room_id
    weaver.oracle.events[create.event_id] = create
    auth = () if version == "12" else (create.event_id,)
    join = weaver.build(("m.room.member", ALICE, ALICE, {"membership": "join"}), (), auth)
    fact = received(join)
    behind = loads(fact.skeleton) | {"prev_events": [create.event_id]}
    driver.feed(replace(fact, skeleton=canonical_bytes(behind)))
    assert driver.verdict(join.event_id) == "rejected"
    assert (driver.tables.room, driver.tables.extremities, driver.tables.current) == ({}, {}, {})


@both
@every_version
def test_an_event_without_prev_events(version: str, cold: bool) -> None:
    """It would stand before the room's creation, where nobody may do anything."""
    weaver = plain_room(version)
    driver = driver_of(weaver, cold=cold)
    state = weaver.oracle.current
    wishes: list[Wish] = [("m.room.message", ALICE, None, {}), ("m.room.topic", ALICE, "", {"topic": "x"})]
    for wish in wishes:
        event = weaver.build(wish, (), weaver.oracle.permitting(state, wish))
        driver.feed(received(event))
        assert driver.verdict(event.event_id) == "rejected"
    _assert_goes_on(weaver, driver)


@both
def test_facts_about_nothing(cold: bool) -> None:
    weaver = plain_room()
    room_id = weaver.room_id
    unknown = Driver(room_id, cold=cold)
    known = driver_of(weaver, cold=cold)
    for driver in (unknown, known):
        assert driver.feed(GapAbandoned(envelope(), room_id, ("$nothing", "$nothing"), "gone")) == ()
        assert driver.feed(EventRefused(envelope(), room_id, "$nothing", "key", None, "no")) == ()
        (skipped,) = driver.feed(RoomForgotten(envelope(), room_id, "@nobody:test"))
        assert isinstance(skipped, Skipped)
        assert skipped.reason == "never_in_the_room"
    _assert_goes_on(weaver, known)


@both
def test_who_has_left_may_forget(cold: bool) -> None:
    weaver = plain_room()
    driver = driver_of(weaver, cold=cold)
    forget = RoomForgotten(envelope(), weaver.room_id, BOB)
    (skipped,) = driver.feed(forget)
    assert isinstance(skipped, Skipped)
    assert skipped.reason == "still_in_the_room"
    driver.feed(received(weaver.add(("m.room.member", BOB, BOB, {"membership": "leave"}))), forget)
    assert driver.tables.forgotten == {BOB}
