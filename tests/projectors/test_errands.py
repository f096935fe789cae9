"""What a step leaves to others: said whenever the tables they look at come to hold something for them."""

from __future__ import annotations

from typing import Any

import pytest

from annals.projectors.notices import GAPS, HANDSHAKES, POLICY, SERVERS
from annals.projectors.rooms.errands import users_and_errands
from annals.schemas.facts.rooms import RoomFact
from tests.support.policed_rooms import policed_room
from tests.support.room_weaver import ALICE, CAROL, MEMBER, plain_room
from tests.support.rooms import SERVER, Driver, received
from tests.support.rooms_elsewhere import story


def _is_local(user_id: str) -> bool:
    return user_id.endswith(f":{SERVER}")


def _strangers(driver: Driver) -> set[tuple[str, str]]:
    """The member events, by user, of users of other servers."""
    current = driver.tables.current.items()
    return {(key, event_id) for (kind, key), event_id in current if kind == MEMBER and not _is_local(key)}


def _stands(driver: Driver) -> dict[str, Any]:
    tables = driver.tables
    waits = {event_id for event_id, row in tables.events.items() if row["verdict"].verdict == "pending_policy"}
    return {GAPS: set(tables.wanted), HANDSHAKES: set(tables.handshakes), POLICY: waits, SERVERS: _strangers(driver)}


def _said(driver: Driver, fact: RoomFact) -> tuple[dict[str, bool], frozenset[str]]:
    """What came to stand in the tables with a fact, and what is said of its step."""
    before = _stands(driver)
    _, errands = users_and_errands(driver.feed(fact), _is_local)
    after = _stands(driver)
    came = {errand: bool(after[errand] - before[errand]) for errand in (GAPS, HANDSHAKES, POLICY)}
    return {**came, SERVERS: before[SERVERS] != after[SERVERS]}, errands


@pytest.mark.parametrize("version", ["10", "12"])
def test_who_looks_after_rooms_of_elsewhere_is_told(version: str) -> None:
    room_id, facts = story(version)
    driver = Driver(room_id)
    seen: set[str] = set()
    for fact in facts:
        came, errands = _said(driver, fact)
        seen |= {errand for errand, has in came.items() if has}
        assert errands >= {errand for errand, has in came.items() if has}
    assert seen == {GAPS, HANDSHAKES, SERVERS}


def test_what_waits_for_a_policy_server_is_told() -> None:
    weaver = policed_room()
    driver = Driver(weaver.room_id)
    driver.feed(*map(received, weaver.events))
    came, errands = _said(driver, received(weaver.add(("m.room.message", CAROL, None, {}))))
    assert came[POLICY]
    assert errands == {POLICY}


def test_a_message_leaves_nothing_to_do() -> None:
    weaver = plain_room()
    driver = Driver(weaver.room_id)
    driver.feed(*map(received, weaver.events))
    for sender in (ALICE, CAROL):
        decisions = driver.feed(received(weaver.add(("m.room.message", sender, None, {}))))
        assert users_and_errands(decisions, _is_local) == (frozenset(), frozenset())
