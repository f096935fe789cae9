"""A verdict that rests on a provisional one is provisional itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from annals.matrix.events import Event
from annals.schemas.facts.decisions import Verdict
from tests.support.room_weaver import ALICE, BOB, CAROL, MEMBER, VERSIONS, Weaver, Wish, driver_of, plain_room
from tests.support.rooms import Driver, fetched, received

ERIN = "@erin:peer"
every_version = pytest.mark.parametrize("version", VERSIONS)


def _provisional(driver: Driver, event: Event) -> bool:
    verdict: Verdict = driver.tables.events[event.event_id]["verdict"]
    return verdict.provisional


def _make_provisional(driver: Driver, event: Event) -> None:
    """As if the room's state had been partial when the event was judged."""
    row = driver.tables.events[event.event_id]
    row["verdict"] = replace(row["verdict"], provisional=True)
    driver.forget()


def _room(version: str) -> tuple[Weaver, Driver]:
    weaver = plain_room(version)
    return weaver, driver_of(weaver)


@every_version
def test_it_spreads_along_prev_events(version: str) -> None:
    weaver, driver = _room(version)
    head = weaver.events[-1].event_id
    doubtful, beside = (weaver.add(("m.room.message", ALICE, None, {"n": n}), [head]) for n in range(2))
    driver.feed(received(doubtful))
    _make_provisional(driver, doubtful)
    child = weaver.add(("m.room.message", ALICE, None, {"n": "child"}), [doubtful.event_id])
    merge = weaver.add(("m.room.message", ALICE, None, {"n": "merge"}), [child.event_id, beside.event_id])
    driver.feed(*map(received, [beside, child, merge]))
    assert [_provisional(driver, event) for event in (beside, child, merge)] == [False, True, True]


@every_version
def test_it_spreads_along_auth_events(version: str) -> None:
    """Both ways: what rests on a doubtful event may have been accepted or rejected wrongly."""
    weaver, driver = _room(version)
    head = weaver.events[-1].event_id
    join = weaver.add((MEMBER, ERIN, ERIN, {"membership": "join"}), [head])
    driver.feed(fetched(join, "auth"))
    _make_provisional(driver, join)
    said = weaver.add(("m.room.message", ERIN, None, {}), [head], [*_permitting(weaver, ERIN), join.event_id])
    topic = weaver.add(("m.room.topic", ERIN, "", {}), [head], [*_permitting(weaver, ERIN), join.event_id])
    other = weaver.add(("m.room.message", CAROL, None, {}), [head])
    for event in (said, topic):
        driver.feed(fetched(event, "state"))
    driver.feed(received(other))
    assert [driver.verdict(event.event_id) for event in (said, topic, other)] == ["accepted", "rejected", "accepted"]
    assert [_provisional(driver, event) for event in (said, topic, other)] == [True, True, False]


def _permitting(weaver: Weaver, sender: str) -> list[str]:
    wish: Wish = ("m.room.message", sender, None, {})
    before = weaver.oracle.after[weaver.events[5].event_id]
    return weaver.oracle.permitting(before, wish)


@every_version
def test_nothing_is_provisional_by_itself(version: str) -> None:
    weaver, driver = _room(version)
    weaver.add(("m.room.message", BOB, None, {}))
    driver.feed(received(weaver.events[-1]))
    assert not any(_provisional(driver, event) for event in weaver.events)
