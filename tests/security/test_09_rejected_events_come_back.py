"""Row 9: what was rejected stays so, however it comes again, and so does what rests on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from annals.matrix.events import Event
from tests.support.room_weaver import CAROL, MEMBER, VERSIONS, Weaver, driver_of, plain_room
from tests.support.rooms import Driver, created, fetched, received
from tests.support.rooms_elsewhere import ERIN, chunks, join_facts, started

MALLORY = "@mallory:peer"
every_version = pytest.mark.parametrize("version", VERSIONS)
both = pytest.mark.parametrize("cold", [False, True])


def _false_levels(weaver: Weaver) -> Event:
    """Carol makes herself powerful."""
    return weaver.build(("m.room.power_levels", CAROL, "", {"users": {CAROL: 100}}))


def _resting_on(weaver: Weaver, event: Event) -> Event:
    wish = ("m.room.topic", CAROL, "", {"topic": "mine"})
    auth = [
        event_id
        for event_id in weaver.oracle.permitting(weaver.oracle.current, wish)
        if weaver.oracle.events[event_id].type != "m.room.power_levels"
    ]
    return weaver.build(wish, auth=[*auth, event.event_id])


@both
@every_version
def test_it_stays_rejected(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    driver = driver_of(weaver, cold=cold)
    false = _false_levels(weaver)
    ways = [received(false), *(fetched(false, purpose) for purpose in ("state", "auth", "backfill", "anchor"))]
    for fact in [*ways, created(false), *reversed(ways)]:
        driver.feed(fact)
        assert driver.verdict(false.event_id) == "rejected"
    dependant = _resting_on(weaver, false)
    for purpose in ("auth", "state"):
        driver.feed(fetched(dependant, purpose))
        assert driver.verdict(dependant.event_id) == "rejected"
    driver.feed(received(dependant))
    assert driver.verdict(dependant.event_id) == "rejected"
    assert driver.tables.current == weaver.oracle.current


@both
@every_version
def test_an_outlier_that_was_rejected_comes_as_a_timeline_event(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    driver = driver_of(weaver, cold=cold)
    false = _false_levels(weaver)
    driver.feed(fetched(false, "auth"), received(false), received(_resting_on(weaver, false)))
    assert driver.verdict(false.event_id) == "rejected"
    assert driver.tables.current == weaver.oracle.current


@both
@every_version
def test_another_servers_state_does_not_bring_it_back(version: str, cold: bool) -> None:
    """The answer to a join names it as part of the room's state: it is left out."""
    weaver = plain_room(version)
    false = weaver.build((MEMBER, MALLORY, CAROL, {"membership": "ban"}))
    answer = join_facts(weaver)
    facts = [started(weaver.room_id), *answer.facts]
    named = fetched(false, "state")
    driver = Driver(weaver.room_id, cold=cold)
    more = [named, *chunks(weaver.room_id, "s1", "state", [false.event_id])]
    driver.feed(*facts[:-1], *more, replace(answer.closed, state_count=answer.closed.state_count + 1))
    assert driver.verdict(false.event_id) == "rejected"
    assert driver.tables.current == weaver.oracle.current
    assert (MEMBER, ERIN) in driver.tables.current
