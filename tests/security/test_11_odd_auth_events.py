"""Row 11: what may not stand among auth events is refused, and nothing raises, in the chain cover either."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.events import event_of
from annals.rooms.auth_chains import ChainCover, Citing
from annals.schemas.facts.decisions import Verdict
from tests.support.room_weaver import ALICE, BOB, CAROL, MEMBER, VERSIONS, Weaver, driver_of, plain_room
from tests.support.rooms import Driver, fetched, received

every_version = pytest.mark.parametrize("version", VERSIONS)
both = pytest.mark.parametrize("cold", [False, True])


def _odd(weaver: Weaver, kind: str, wish: Any) -> Any:
    auth = weaver.oracle.permitting(weaver.oracle.current, wish)
    message = next(e.event_id for e in weaver.events if e.type == "m.room.message")
    bobs = weaver.oracle.current[MEMBER, BOB]
    older = weaver.events[1].event_id
    more = {"a message": [message], "two of one key": [older], "one twice": [auth[0]], "not needed": [bobs]}
    return weaver.build(wish, auth=[*auth, *more[kind]])


@both
@pytest.mark.parametrize("kind", ["a message", "two of one key", "one twice", "not needed"])
@every_version
def test_it_is_rejected(version: str, kind: str, cold: bool) -> None:
    weaver = plain_room(version)
    weaver.add(("m.room.message", CAROL, None, {}))
    weaver.add((MEMBER, ALICE, ALICE, {"membership": "join", "displayname": "A"}))
    driver = driver_of(weaver, cold=cold)
    state = _odd(weaver, kind, ("m.room.topic", ALICE, "", {"topic": "x"}))
    said = _odd(weaver, kind, ("m.room.message", ALICE, None, {}))
    driver.feed(received(state), received(said))
    for event in (state, said):
        verdict: Verdict = driver.tables.events[event.event_id]["verdict"]
        assert verdict.verdict == "rejected"
        assert verdict.reason in ("duplicate_auth_event", "unneeded_auth_event")
    outlier = _odd(weaver, kind, ("m.room.topic", ALICE, "", {"topic": "outlier"}))
    driver.feed(fetched(outlier, "state"))
    assert driver.verdict(outlier.event_id) == "rejected"
    assert not driver.tables.places.keys() & {state.event_id, outlier.event_id}
    _goes_on(weaver, driver)


def _goes_on(weaver: Weaver, driver: Driver) -> None:
    topic = weaver.add(("m.room.topic", ALICE, "", {"topic": "after"}))
    driver.feed(received(topic))
    assert driver.verdict(topic.event_id) == "accepted"
    assert topic.event_id in driver.tables.places


def test_a_circle_has_no_place() -> None:
    """Ids of room versions 1 and 2 are chosen by their senders, so that auth events may form one."""
    cover = ChainCover(())
    circle = {"$a": ("$b",), "$b": ("$c",), "$c": ("$a",), "$self": ("$self", "$a")}
    for position, (event_id, cited) in enumerate(circle.items()):
        assert cover.add(Citing(event_id, ("m.room.topic", ""), cited, position)) == []
    adopted = [Citing(event_id, ("m.room.topic", ""), cited, n) for n, (event_id, cited) in enumerate(circle.items())]
    assert ChainCover(adopted).adopt() == []


@both
@every_version
@pytest.mark.parametrize("depth", [0, 1, 2**53 - 1])
def test_any_depth(version: str, depth: int, cold: bool) -> None:
    """Depth is what its sender says: it orders nothing in the DAG."""
    weaver = plain_room(version)
    driver = driver_of(weaver, cold=cold)
    said = weaver.build(("m.room.message", CAROL, None, {"depth": depth}))
    odd = event_of(said.pdu | {"depth": depth}, weaver.rules, said.event_id)
    driver.feed(received(odd))
    assert driver.verdict(odd.event_id) == "accepted"
    assert list(driver.tables.extremities) == [odd.event_id]
    after = driver.send(ALICE, "m.room.message", {})
    assert driver.verdict(after.event_id) == "accepted"
    assert after.depth <= 2**53 - 1
