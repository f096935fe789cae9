"""Row 10: no event stays whose auth ancestor could not be had."""

from __future__ import annotations

from dataclasses import replace

import pytest

from annals.rooms.admission import event_in
from annals.schemas.facts.rooms import GapAbandoned, PduFact
from tests.support.room_weaver import ALICE, CAROL, MEMBER, VERSIONS, driver_of, plain_room
from tests.support.rooms import Driver, envelope, fetched, received
from tests.support.rooms_elsewhere import ERIN, chunks, join_facts, started

DORA = "@dora:peer"
every_version = pytest.mark.parametrize("version", VERSIONS)
both = pytest.mark.parametrize("cold", [False, True])


@both
@every_version
def test_all_that_waits_for_it_is_dropped(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    driver = driver_of(weaver, cold=cold)
    lost = weaver.add((MEMBER, DORA, DORA, {"membership": "join"}))
    first = weaver.add(("m.room.message", DORA, None, {}), [weaver.events[5].event_id], None)
    second = weaver.add((MEMBER, DORA, DORA, {"membership": "join", "displayname": "D"}))
    assert lost.event_id in second.auth_events
    for fact in (fetched(second, "state"), received(first)):
        driver.feed(fact)
    driver.feed(GapAbandoned(envelope(), weaver.room_id, (lost.event_id, *first.prev_events), "/event failed"))
    assert driver.verdict(second.event_id) == "dropped"
    assert not any(
        row["verdict"].verdict == "accepted" and lost.event_id in _auth_of(row) for row in driver.tables.events.values()
    )
    # It is not lost for ever.
    driver.feed(fetched(lost, "auth"), fetched(second, "state"))
    assert driver.verdict(second.event_id) == "accepted"


def _auth_of(row: dict[str, object]) -> tuple[str, ...]:
    fact = row["fact"]
    assert isinstance(fact, PduFact)
    return event_in(fact).auth_events


@both
@every_version
def test_a_set_that_names_it_does_without(version: str, cold: bool) -> None:
    """The fetch of an auth event failed in the midst of a join: what cites it is not in the state."""
    weaver = plain_room(version)
    weaver.add((MEMBER, ALICE, DORA, {"membership": "invite"}))
    invited = weaver.add((MEMBER, DORA, DORA, {"membership": "join"}))
    answer = join_facts(weaver)
    lost = weaver.events[-3].event_id
    assert lost in invited.auth_events
    kept = [fact for fact in answer.facts if getattr(fact, "event_id", None) != lost or fact is answer.closed]
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id), *kept)
    assert driver.tables.outcomes["h1"].outcome == "completed"
    assert driver.verdict(invited.event_id) == "parked"
    assert (MEMBER, DORA) not in driver.tables.current
    assert (MEMBER, ERIN) in driver.tables.current


@both
@every_version
def test_an_event_whose_auth_events_are_not_here_gets_no_place(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    answer = join_facts(weaver)
    levels = weaver.events[2].event_id
    ids = [event_id for event_id in weaver.oracle.before[answer.event.event_id].values() if event_id != levels]
    kept = [fact for fact in answer.facts if not hasattr(fact, "event_ids") and getattr(fact, "event_id", "") != levels]
    closed = replace(answer.closed, state_count=len(ids))
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id), *kept[:-1], *chunks(weaver.room_id, "s1", "state", ids), closed)
    outcome = driver.tables.outcomes["h1"]
    assert (outcome.outcome, outcome.reason) == ("failed", "auth_events_not_here")
    assert driver.verdict(answer.event.event_id) == "dropped"
    assert driver.tables.room == {}
    assert CAROL not in driver.tables.local
