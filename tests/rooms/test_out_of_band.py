"""Invites, knocks and what answers them, in rooms whose state we do not have."""

from __future__ import annotations

from typing import Any

import pytest

from annals.schemas.facts import decisions as d
from annals.schemas.facts.rooms import RoomForgotten
from tests.support.room_weaver import ALICE, CAROL, MEMBER, VERSIONS, Weaver, plain_room
from tests.support.rooms import Driver, envelope, fetched, received
from tests.support.rooms_elsewhere import ERIN, FRANK, join_facts, outsider, started

every_version = pytest.mark.parametrize("version", VERSIONS)
both = pytest.mark.parametrize("cold", [False, True])


def _invited(version: str, cold: bool, user: str = ERIN) -> tuple[Weaver, Driver, Any]:
    weaver = plain_room(version)
    invite = weaver.add((MEMBER, ALICE, user, {"membership": "invite"}))
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(outsider(invite))
    return weaver, driver, invite


@both
@every_version
def test_an_invite_is_taken_as_it_is(version: str, cold: bool) -> None:
    _, driver, invite = _invited(version, cold)
    verdict = driver.tables.events[invite.event_id]["verdict"]
    assert (verdict.verdict, verdict.outlier, verdict.reason) == ("accepted", True, "out_of_band")
    assert (driver.tables.local, driver.tables.previews) == ({ERIN: "invite"}, {ERIN: invite.event_id})
    assert (driver.tables.room, driver.tables.wanted) == ({}, set())
    assert driver.feed(outsider(invite)) == (), "a repeat"


@both
@every_version
def test_an_invite_that_was_taken_back(version: str, cold: bool) -> None:
    weaver, driver, invite = _invited(version, cold)
    back = weaver.add((MEMBER, ALICE, ERIN, {"membership": "leave"}))
    driver.feed(outsider(back))
    assert driver.tables.local == {ERIN: "leave"}
    driver.feed(outsider(invite))
    assert driver.tables.local == {ERIN: "leave"}, "an old one does not come back"
    driver.feed(RoomForgotten(envelope(), weaver.room_id, ERIN))
    assert driver.tables.forgotten == {ERIN}


@both
def test_who_is_invited_cannot_forget(cold: bool) -> None:
    weaver, driver, _ = _invited("12", cold)
    (skipped,) = driver.feed(RoomForgotten(envelope(), weaver.room_id, ERIN))
    assert isinstance(skipped, d.Skipped)
    assert skipped.reason == "still_in_the_room"


@both
@every_version
def test_the_invite_passes_check_4_when_we_join(version: str, cold: bool) -> None:
    weaver, driver, invite = _invited(version, cold)
    driver.feed(started(weaver.room_id))
    # The invite is here: the joining side does not log it again.
    answer = join_facts(weaver, known={invite.event_id})
    driver.feed(*answer.facts)
    assert driver.tables.outcomes["h1"].outcome == "completed"
    verdict = driver.tables.events[invite.event_id]["verdict"]
    assert (verdict.verdict, verdict.reason) == ("accepted", None)
    before = driver.tables.events[answer.event.event_id]["verdict"].state_before
    assert driver.tables.state_map(before)[(MEMBER, ERIN)] == invite.event_id
    assert (driver.tables.local[ERIN], driver.tables.previews) == ("join", {})


@both
@every_version
def test_an_invite_by_somebody_who_may_not_stays_out_of_the_state(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    false = weaver.build((MEMBER, "@mallory:peer", FRANK, {"membership": "invite"}))
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(outsider(false))
    assert driver.tables.local == {FRANK: "invite"}
    driver.feed(started(weaver.room_id), fetched(false, "state"), *join_facts(weaver).facts)
    assert driver.verdict(false.event_id) == "rejected"
    assert (MEMBER, FRANK) not in driver.tables.current


@both
@every_version
def test_in_a_room_that_we_are_in_it_is_judged_like_any_event(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id), *join_facts(weaver).facts)
    invite = weaver.add((MEMBER, CAROL, FRANK, {"membership": "invite"}))
    driver.feed(outsider(invite))
    assert driver.tables.current[(MEMBER, FRANK)] == invite.event_id
    assert (driver.tables.local[FRANK], driver.tables.previews) == ("invite", {})


@both
def test_it_ends_its_handshake(cold: bool) -> None:
    weaver = plain_room()
    weaver.add(("m.room.join_rules", ALICE, "", {"join_rule": "knock"}))
    knock = weaver.add((MEMBER, ERIN, ERIN, {"membership": "knock"}))
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id, "h1", ERIN, "knock"), outsider(knock, handshake="h1"))
    outcome = driver.tables.outcomes["h1"]
    assert (outcome.outcome, outcome.event_id, driver.tables.local) == ("completed", knock.event_id, {ERIN: "knock"})


@both
def test_it_waits_for_the_end_of_a_join(cold: bool) -> None:
    """Or an older state that the join brings would stand above it."""
    weaver = plain_room()
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id))
    answer = join_facts(weaver)
    invite = weaver.add((MEMBER, CAROL, FRANK, {"membership": "invite"}))
    (queued,) = driver.feed(outsider(invite))
    assert isinstance(queued, d.Queued)
    driver.feed(*answer.facts)
    assert driver.tables.current[(MEMBER, FRANK)] == invite.event_id


@both
@pytest.mark.parametrize("membership", ["join", "whim", 3])
def test_what_is_no_membership_out_of_band(membership: object, cold: bool) -> None:
    weaver = plain_room()
    odd = weaver.build((MEMBER, ERIN, ERIN, {"membership": membership}))
    said = weaver.build(("m.room.message", CAROL, None, {}))
    driver = Driver(weaver.room_id, cold=cold)
    for event in (odd, said):
        (skipped,) = driver.feed(outsider(event))
        assert isinstance(skipped, d.Skipped)
    assert (driver.tables.local, driver.tables.events) == ({}, {})
    driver.feed(received(weaver.events[0]))
    assert driver.verdict(weaver.events[0].event_id) == "accepted"
