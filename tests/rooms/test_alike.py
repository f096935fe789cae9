"""What is judged once for many: a verdict is remembered with what it was reached by, and for no longer."""

from __future__ import annotations

import pytest

from annals.matrix.events import Event
from tests.support.room_weaver import ALICE, BOB, CAROL, MEMBER, POWER, VERSIONS, driver_of, plain_room
from tests.support.rooms import Driver, received

every_version = pytest.mark.parametrize("version", VERSIONS)


def _say(sender: str, kind: str = "m.room.message") -> tuple[str, str, None, dict[str, str]]:
    return kind, sender, None, {}


@every_version
def test_who_was_banned_cites_the_ban_and_is_rejected(version: str) -> None:
    weaver = plain_room(version)
    before = weaver.add(_say(CAROL))
    weaver.add((MEMBER, ALICE, CAROL, {"membership": "ban"}))
    after = weaver.add(_say(CAROL))
    driver = driver_of(weaver)
    assert (driver.verdict(before.event_id), driver.verdict(after.event_id)) == ("accepted", "rejected")


@every_version
def test_who_cites_what_was_before_a_ban_is_judged_by_the_state(version: str) -> None:
    weaver = plain_room(version)
    before = weaver.add(_say(CAROL))
    weaver.add((MEMBER, ALICE, CAROL, {"membership": "ban"}))
    old_auth = list(before.auth_events)
    after = weaver.add(_say(CAROL), auth=old_auth)
    driver = driver_of(weaver)
    assert before.auth_events == after.auth_events
    assert (driver.verdict(before.event_id), driver.verdict(after.event_id)) == ("accepted", "rejected")


@every_version
def test_other_senders_and_other_types_are_judged_by_themselves(version: str) -> None:
    weaver = plain_room(version)
    levels = weaver.oracle.events[weaver.oracle.current[POWER, ""]].content
    weaver.add((POWER, ALICE, "", {**levels, "events": {"org.rare": 100}}))
    driver = driver_of(weaver)
    said = weaver.add(_say(BOB))
    assert _verdict(driver, said) == "accepted"
    assert _verdict(driver, weaver.add(_say(BOB, "org.rare"))) == "rejected"
    # Its own membership is not among what it cites.
    assert _verdict(driver, weaver.add(_say(CAROL), auth=list(said.auth_events))) == "rejected"


@every_version
def test_who_cites_too_little_is_rejected_after_who_cited_all(version: str) -> None:
    weaver = plain_room(version)
    driver = driver_of(weaver)
    said = weaver.add(_say(BOB))
    assert _verdict(driver, said) == "accepted"
    membership = weaver.oracle.current[MEMBER, BOB]
    too_little = [event_id for event_id in said.auth_events if event_id != membership]
    assert _verdict(driver, weaver.add(_say(BOB), auth=too_little)) == "rejected"
    assert _verdict(driver, weaver.add(_say(BOB), auth=list(said.auth_events))) == "accepted"


def _verdict(driver: Driver, event: Event) -> str:
    driver.feed(received(event))
    return str(driver.verdict(event.event_id))
