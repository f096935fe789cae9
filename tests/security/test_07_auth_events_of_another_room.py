"""Row 7: an event of another room permits nothing here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from annals.schemas.facts.decisions import Skipped
from annals.schemas.facts.rooms import GapAbandoned
from tests.support.room_weaver import ALICE, CAROL, VERSIONS, Weaver, driver_of, plain_room
from tests.support.rooms import Driver, envelope, fetched, received


def _citing(weaver: Weaver, foreign: Any) -> Any:
    wish = ("m.room.topic", CAROL, "", {"topic": "mine"})
    auth = weaver.oracle.permitting(weaver.oracle.current, wish)
    return weaver.build(wish, auth=[*auth, foreign.event_id])


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("way", ["nobody has it", "it is fetched"])
@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_never_accepted(version: str, way: str, cold: bool) -> None:
    weaver = plain_room(version)
    driver = driver_of(weaver, cold=cold)
    foreign = _foreign_of_another_room(version)
    event = _citing(weaver, foreign)
    driver.feed(received(event))
    assert driver.verdict(event.event_id) == "parked"
    if way == "it is fetched":
        skipped, *_ = driver.feed(replace(fetched(foreign, "auth"), room_id=weaver.room_id))
        assert isinstance(skipped, Skipped)
        assert skipped.reason == "other_room"
    else:
        driver.feed(GapAbandoned(envelope(), weaver.room_id, (foreign.event_id,), "nobody has it"))
    assert driver.verdict(event.event_id) == "dropped"
    assert (driver.tables.wanted, len(driver.view.known_header().parked)) == (set(), 0)
    _goes_on(weaver, driver)


def _foreign_of_another_room(version: str) -> Any:
    other = plain_room(version)
    if version != "12":
        other.room_id = "!elsewhere:peer"
    else:
        other.room_id = "!" + "e" * 43
    return other.build(("m.room.power_levels", ALICE, "", {"users": {CAROL: 100}}), [other.events[2].event_id], [])


def _goes_on(weaver: Weaver, driver: Driver) -> None:
    said = weaver.add(("m.room.message", CAROL, None, {}))
    driver.feed(received(said))
    assert driver.verdict(said.event_id) == "accepted"
